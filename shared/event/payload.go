package event

// Schema names the payload's layout and version. A reader refuses others.
const Schema = "tandem.transaction/1"

// Op is what a row event did, in Debezium's letters.
type Op byte

// The row operations.
const (
	Insert Op = 'c'
	Update Op = 'u'
	Delete Op = 'd'
)

// Transaction is the payload of one committed transaction: its rows in binlog
// order, or one statement that the server logged as text.
type Transaction struct {
	Server    string // server_uuid (MySQL) or server_id (MariaDB) of the writer
	GTID      string // "" where the server has no GTIDs
	File      string // binlog file of the commit
	Pos       uint32 // position after the commit, bytes
	Tables    []Table
	Rows      []Row
	Statement *Statement
}

// Statement is text that the server logged instead of rows.
type Statement struct {
	DB  string // default database
	SQL string
	DDL bool // false: data that was logged as text, which tandem cannot replay exactly
}

// Table describes the columns of the rows that name it, as they were when the
// rows were written.
type Table struct {
	DB      string
	Name    string
	Columns []Column
	Key     []int // indexes into Columns: the primary key, else the chosen unique NOT NULL key; empty: none
}

// Column is one column of a Table in server order.
type Column struct {
	Name     string
	Type     Type
	Unsigned bool
	Length   int      // BINARY, VECTOR: width in bytes; temporal types: fractional digits; BIT: width in bits; else 0
	Charset  string   // character types, ENUM and SET: the character set of the raw bytes
	Labels   []string // ENUM, SET: labels as raw bytes in Charset
}

// Row is one row change. Values stand in the order of the table's columns.
type Row struct {
	Table  int // index into Transaction.Tables
	Op     Op
	Before []Value // nil for Insert
	After  []Value // nil for Delete
}

// Type is a column type by its SQL name, in lower case; the sizes of TEXT and
// BLOB are not told apart, the receiver's own column decides them.
type Type string

// The column types. What Value.Data holds for each stands beside it.
const (
	TinyInt   Type = "tinyint"   // decimal text, all integer types
	SmallInt  Type = "smallint"  //
	MediumInt Type = "mediumint" //
	Int       Type = "int"       //
	BigInt    Type = "bigint"    //
	Decimal   Type = "decimal"   // decimal text with all its digits
	Float     Type = "float"     // the shortest text that reads back as the same 32-bit value
	Double    Type = "double"    // likewise for 64 bits
	Bit       Type = "bit"       // unsigned decimal text
	Year      Type = "year"      // "2024", "0000"
	Date      Type = "date"      // "2024-01-31", zero dates unchanged
	Time      Type = "time"      // "-838:59:59.000000", fraction as declared
	DateTime  Type = "datetime"  // "2024-01-31 12:00:00.5", fraction as declared
	Timestamp Type = "timestamp" // like datetime, in UTC
	Char      Type = "char"      // raw bytes in the column's character set, all character types
	VarChar   Type = "varchar"   //
	Text      Type = "text"      //
	Binary    Type = "binary"    // raw bytes, padded to Length
	VarBinary Type = "varbinary" // raw bytes
	Blob      Type = "blob"      // raw bytes
	JSON      Type = "json"      // JSON text in UTF-8 as MySQL prints it
	Enum      Type = "enum"      // the label; the error value (index 0) has Kind Zero
	Set       Type = "set"       // labels joined by commas
	Geometry  Type = "geometry"  // SRID (4 bytes, little endian) and WKB
	Vector    Type = "vector"    // raw bytes: 32-bit floats, little endian
)

// Textual reports whether values of the type are character strings in Column.Charset.
func (t Type) Textual() bool {
	switch t {
	case Char, VarChar, Text, Enum, Set:
		return true
	}
	return false
}

// Bytes reports whether values of the type are raw bytes without a character set.
func (t Type) Bytes() bool {
	switch t {
	case Binary, VarBinary, Blob, Geometry, Vector:
		return true
	}
	return false
}

func (t Type) known() bool {
	switch t {
	case TinyInt, SmallInt, MediumInt, Int, BigInt, Decimal, Float, Double, Bit, Year, Date, Time, DateTime,
		Timestamp, Char, VarChar, Text, Binary, VarBinary, Blob, JSON, Enum, Set, Geometry, Vector:
		return true
	}
	return false
}

// Kind tells what a Value is.
type Kind byte

// The kinds of a value.
const (
	Absent Kind = iota // the row image does not hold this column (binlog_row_image is not FULL)
	Null
	Data
	Zero // ENUM index 0: what a non-strict server stores for a label it does not know
)

// Value is one column's value. Data is meaningful for Kind Data only and follows the column's Type.
type Value struct {
	Kind  Kind
	Data  []byte
	Typed *TypedList // JSON: values whose type the text does not show; nil: there are none
}

// Equal reports whether two values hold the same kind and bytes, and values of
// the same types inside JSON.
func (v Value) Equal(o Value) bool {
	return v.Kind == o.Kind && string(v.Data) == string(o.Data) && sameTyped(v.Typed, o.Typed)
}

// Of returns a Data value of s.
func Of(s string) Value { return Value{Kind: Data, Data: []byte(s)} }

// Heartbeat is the payload of TypeHeartbeat: the stream was read up to here at the event's time.
type Heartbeat struct {
	GTID string `json:"gtid,omitempty"`
	File string `json:"file,omitempty"`
	Pos  uint32 `json:"pos,omitempty"`
}
