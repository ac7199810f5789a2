// Package types answers which column types and values tandem must carry
// unchanged. Every case is run by the tests of the binlog reader and by the
// end-to-end test; docs/types.md is made from it.
package types

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tandem-dc/tandem/shared/sqldb"
)

// Case is one column type with values at its edges.
type Case struct {
	Name    string         // unique, letters, digits and _
	Flavors []sqldb.Flavor // servers that have the type; empty: all
	Column  string         // type and attributes, as in CREATE TABLE t (v <Column>)
	Session string         // statement that sets up the writing session; empty: none
	Values  []string       // SQL literals or expressions, one row each; besides them every case gets a NULL
	NotNull bool           // the column does not take NULL
	// Compare is an SQL expression with one %s for the column: two columns that
	// give the same text for every row hold the same. One that begins with
	// HEX( shows the raw bytes.
	Compare string
	Type    string // of the event's column: what the event package calls it
}

// On reports whether the flavour has the type.
func (c *Case) On(f sqldb.Flavor) bool { return len(c.Flavors) == 0 || slices.Contains(c.Flavors, f) }

// Expr returns Compare over a column.
func (c *Case) Expr(column string) string { return fmt.Sprintf(c.Compare, sqldb.Quote(column)) }

// CreateTable returns the statement that makes the case's table: a key "id" and the column "v".
func (c *Case) CreateTable(name string) string {
	return "CREATE TABLE " + sqldb.Quote(name) + " (id INT PRIMARY KEY, v " + c.Column + ") CHARACTER SET utf8mb4"
}

// Rows returns the values to insert, with a NULL at the end if the column takes it.
func (c *Case) Rows() []string {
	if c.NotNull {
		return c.Values
	}
	return append(slices.Clone(c.Values), "NULL")
}

// Insert returns one statement that inserts all rows, with ids from 1 on.
func (c *Case) Insert(name string) string {
	var rows []string
	for i, v := range c.Rows() {
		rows = append(rows, fmt.Sprintf("(%d, %s)", i+1, v))
	}
	return "INSERT INTO " + sqldb.Quote(name) + " (id, v) VALUES " + strings.Join(rows, ", ")
}

var (
	onMySQL   = []sqldb.Flavor{sqldb.MySQL}
	onMariaDB = []sqldb.Flavor{sqldb.MariaDB}
)

// Ways to compare.
const (
	asText  = "CAST(%s AS CHAR)"
	asBytes = "HEX(%s)"
	asReal  = "CAST(%s AS DOUBLE)"
	// The text of a JSON document, a space and the types of all values in it.
	asDocument = "CONCAT(CAST(%[1]s AS CHAR), ' ', (SELECT GROUP_CONCAT(JSON_TYPE(x) ORDER BY o) FROM " +
		"JSON_TABLE(JSON_EXTRACT(%[1]s, '$', '$**.*', '$**[*]'), '$[*]' COLUMNS (o FOR ORDINALITY, x JSON PATH '$')) j))"
)

// Sessions that a careless application may have.
const (
	loose  = "SET SESSION sql_mode = '', time_zone = '+08:00'"
	summer = "SET SESSION sql_mode = '', time_zone = '-03:30'"
)

// All are the cases, in the order of the manual.
func All() []Case {
	return slices.Concat(numbers, times, strings_, others)
}

var numbers = []Case{
	{Name: "tinyint", Column: "TINYINT", Values: []string{"-128", "-1", "0", "1", "127"}, Compare: asText, Type: "tinyint"},
	{Name: "tinyint_unsigned", Column: "TINYINT UNSIGNED", Values: []string{"0", "127", "128", "255"}, Compare: asText, Type: "tinyint"},
	{Name: "tinyint_zerofill", Column: "TINYINT(3) ZEROFILL", Values: []string{"0", "7", "255"}, Compare: "%s + 0", Type: "tinyint"},
	{Name: "boolean", Column: "BOOLEAN", Values: []string{"TRUE", "FALSE", "2"}, Compare: asText, Type: "tinyint"},
	{Name: "smallint", Column: "SMALLINT", Values: []string{"-32768", "-1", "0", "32767"}, Compare: asText, Type: "smallint"},
	{Name: "smallint_unsigned", Column: "SMALLINT UNSIGNED", Values: []string{"0", "32768", "65535"}, Compare: asText, Type: "smallint"},
	{Name: "mediumint", Column: "MEDIUMINT", Values: []string{"-8388608", "-1", "0", "8388607"}, Compare: asText, Type: "mediumint"},
	{Name: "mediumint_unsigned", Column: "MEDIUMINT UNSIGNED", Values: []string{"0", "8388608", "16777215"}, Compare: asText, Type: "mediumint"},
	{Name: "int", Column: "INT", Values: []string{"-2147483648", "-1", "0", "2147483647"}, Compare: asText, Type: "int"},
	{Name: "int_unsigned", Column: "INT UNSIGNED", Values: []string{"0", "2147483648", "4294967295"}, Compare: asText, Type: "int"},
	{Name: "bigint", Column: "BIGINT", Values: []string{"-9223372036854775808", "-1", "0", "9223372036854775807", "9007199254740993"}, Compare: asText, Type: "bigint"},
	{Name: "bigint_unsigned", Column: "BIGINT UNSIGNED", Values: []string{"0", "9223372036854775808", "18446744073709551615"}, Compare: asText, Type: "bigint"},
	{Name: "decimal_wide", Column: "DECIMAL(65,30)", Values: []string{"12345678901234567890123456789012345.123456789012345678901234567891", "-0.000000000000000000000000000001", "0",
		"-99999999999999999999999999999999999.999999999999999999999999999999"}, Compare: asText, Type: "decimal"},
	{Name: "decimal_money", Column: "DECIMAL(10,2)", Values: []string{"0", "0.01", "-0.01", "99999999.99", "-99999999.99", "1000000000/9", "100"}, Session: loose, Compare: asText, Type: "decimal"},
	{Name: "decimal_whole", Column: "DECIMAL(18,0)", Values: []string{"999999999999999999", "-999999999999999999", "1000000000", "0"}, Compare: asText, Type: "decimal"},
	{Name: "decimal_fraction", Column: "DECIMAL(9,9)", Values: []string{"0.123456789", "-0.000000001", "0"}, Compare: asText, Type: "decimal"},
	{Name: "decimal_unsigned", Column: "DECIMAL(5,1) UNSIGNED", Values: []string{"0", "9999.9"}, Compare: asText, Type: "decimal"},
	{Name: "float", Column: "FLOAT", Values: []string{"0", "0.1", "-0.1", "16777216", "16777217", "3.402823466e38", "-3.402823466e38", "1.175494351e-38", "1e-45", "1234567.8"}, Compare: asReal, Type: "float"},
	{Name: "float_scaled", Column: "FLOAT(7,3)", Values: []string{"1234.567", "-0.001"}, Compare: asReal, Type: "float"},
	{Name: "double", Column: "DOUBLE", Values: []string{"0", "0.1", "1e0/3", "1.7976931348623157e308", "-1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "9007199254740993"}, Compare: asReal, Type: "double"},
	{Name: "bit1", Column: "BIT(1)", Values: []string{"b'0'", "b'1'"}, Compare: "%s + 0", Type: "bit"},
	{Name: "bit17", Column: "BIT(17)", Values: []string{"b'0'", "b'10000000000000001'", "b'11111111111111111'"}, Compare: "%s + 0", Type: "bit"},
	{Name: "bit64", Column: "BIT(64)", Values: []string{"b'0'", "b'1000000000000000000000000000000000000000000000000000000000000000'", "18446744073709551615"}, Compare: "%s + 0", Type: "bit"},
}

var times = []Case{
	{Name: "year", Column: "YEAR", Session: loose, Values: []string{"1901", "2155", "'0000'", "2024"}, Compare: asText, Type: "year"},
	{Name: "date", Column: "DATE", Session: loose, Values: []string{"'0000-00-00'", "'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'2024-00-00'", "'0001-01-01'"}, Compare: asText, Type: "date"},
	{Name: "time", Column: "TIME", Values: []string{"'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'", "'23:59:59'"}, Compare: asText, Type: "time"},
	{Name: "time1", Column: "TIME(1)", Values: []string{"'-838:59:58.9'", "'-00:00:00.5'", "'00:00:00.1'", "'100:00:00.0'"}, Compare: asText, Type: "time"},
	{Name: "time2", Column: "TIME(2)", Values: []string{"'-00:00:00.01'", "'-00:00:01.99'", "'12:34:56.78'"}, Compare: asText, Type: "time"},
	{Name: "time3", Column: "TIME(3)", Values: []string{"'-00:00:00.001'", "'-01:00:00.999'", "'12:34:56.789'"}, Compare: asText, Type: "time"},
	{Name: "time4", Column: "TIME(4)", Values: []string{"'-00:00:00.0001'", "'-01:00:00.9999'"}, Compare: asText, Type: "time"},
	{Name: "time6", Column: "TIME(6)", Values: []string{"'-00:00:00.500000'", "'-838:59:58.999999'", "'838:59:58.999999'", "'-00:00:00.000001'", "'00:00:00.000000'"}, Compare: asText, Type: "time"},
	{Name: "datetime", Column: "DATETIME", Session: loose, Values: []string{"'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2024-03-31 02:30:00'", "'2024-00-00 00:00:00'"}, Compare: asText, Type: "datetime"},
	{Name: "datetime1", Column: "DATETIME(1)", Session: loose, Values: []string{"'2024-01-31 12:00:00.5'", "'0000-00-00 00:00:00'"}, Compare: asText, Type: "datetime"},
	{Name: "datetime3", Column: "DATETIME(3)", Session: loose, Values: []string{"'2024-01-31 12:00:00.005'", "'9999-12-31 23:59:59.999'"}, Compare: asText, Type: "datetime"},
	{Name: "datetime6", Column: "DATETIME(6)", Session: loose, Values: []string{"'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'", "'0000-00-00 00:00:00'", "'2024-01-31 12:00:00.500000'"}, Compare: asText, Type: "datetime"},
	{Name: "timestamp", Column: "TIMESTAMP NULL", Session: loose, Values: []string{"'0000-00-00 00:00:00'", "'1970-01-01 08:00:01'", "'2038-01-19 11:14:07'", "'2024-03-31 02:30:00'"}, Compare: asText, Type: "timestamp"},
	{Name: "timestamp2", Column: "TIMESTAMP(2) NULL", Session: summer, Values: []string{"'2024-03-31 02:30:00.01'", "'0000-00-00 00:00:00'"}, Compare: asText, Type: "timestamp"},
	{Name: "timestamp6", Column: "TIMESTAMP(6) NULL", Session: summer, Values: []string{"'2024-03-31 02:30:00.000001'", "'2038-01-18 23:44:07.999999'", "'0000-00-00 00:00:00.000000'"}, Compare: asText, Type: "timestamp"},
}

var strings_ = []Case{
	{Name: "char", Column: "CHAR(20)", Values: []string{"''", "'a'", "'a  '", "'双活😀'", "'é'", `'q''\"\\\\\\n'`}, Compare: asBytes, Type: "char"},
	{Name: "char_wide", Column: "CHAR(255)", Values: []string{"''", "REPEAT('😀', 255)", "REPEAT('a', 255)"}, Compare: asBytes, Type: "char"},
	{Name: "varchar", Column: "VARCHAR(40)", Values: []string{"''", "'a '", "'双活😀'", "X'00'", "CONCAT('a', X'0A0D001A')"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_wide", Column: "VARCHAR(9000)", Values: []string{"''", "REPEAT('双', 9000)"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_latin1", Column: "VARCHAR(40) CHARACTER SET latin1", Values: []string{"'é'", "'€'", "_latin1 X'80819DFF'"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_gbk", Column: "VARCHAR(40) CHARACTER SET gbk", Values: []string{"'双活'", "_gbk X'815C'", "'a'"}, Compare: asBytes, Type: "varchar"},
	{Name: "char_gbk", Column: "CHAR(10) CHARACTER SET gbk", Values: []string{"'双活'", "_gbk X'815C'", "''"}, Compare: asBytes, Type: "char"},
	{Name: "varchar_big5", Column: "VARCHAR(40) CHARACTER SET big5", Values: []string{"_big5 X'A55C'", "'a'"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_sjis", Column: "VARCHAR(40) CHARACTER SET sjis", Values: []string{"_sjis X'835C'"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_utf16", Column: "VARCHAR(40) CHARACTER SET utf16", Values: []string{"'a'", "'双😀'", "''"}, Compare: asBytes, Type: "varchar"},
	{Name: "char_utf32", Column: "CHAR(10) CHARACTER SET utf32", Values: []string{"'a '", "'😀'", "''"}, Compare: asBytes, Type: "char"},
	{Name: "varchar_ucs2", Column: "VARCHAR(40) CHARACTER SET ucs2", Values: []string{"'a'", "'双'"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_utf8mb3", Column: "VARCHAR(40) CHARACTER SET utf8mb3", Values: []string{"'双é'"}, Compare: asBytes, Type: "varchar"},
	{Name: "varchar_ascii", Column: "VARCHAR(40) CHARACTER SET ascii", Values: []string{"'a'"}, Compare: asBytes, Type: "varchar"},
	{Name: "binary", Column: "BINARY(4)", Values: []string{"X'61000000'", "X'00000000'", "X'FFFFFFFF'", "X'00'", "X'6100'"}, Compare: asBytes, Type: "binary"},
	{Name: "binary_wide", Column: "BINARY(255)", Values: []string{"X'00'", "REPEAT(X'FF', 255)", "X'20'"}, Compare: asBytes, Type: "binary"},
	{Name: "varbinary", Column: "VARBINARY(300)", Values: []string{"X''", "X'6100'", "X'00FF'", "REPEAT(X'00', 300)"}, Compare: asBytes, Type: "varbinary"},
	{Name: "tinyblob", Column: "TINYBLOB", Values: []string{"X''", "REPEAT(X'FE', 255)"}, Compare: asBytes, Type: "blob"},
	{Name: "blob", Column: "BLOB", Values: []string{"X''", "X'00'", "REPEAT(X'00FF', 32767)"}, Compare: asBytes, Type: "blob"},
	{Name: "mediumblob", Column: "MEDIUMBLOB", Values: []string{"REPEAT(X'00FF', 40000)"}, Compare: asBytes, Type: "blob"},
	{Name: "longblob", Column: "LONGBLOB", Values: []string{"X''", "REPEAT(X'00FF', 40000)"}, Compare: asBytes, Type: "blob"},
	{Name: "tinytext", Column: "TINYTEXT", Values: []string{"''", "REPEAT('a', 255)"}, Compare: asBytes, Type: "text"},
	{Name: "text", Column: "TEXT", Values: []string{"''", "'双活😀 '", "REPEAT('双', 21845)"}, Compare: asBytes, Type: "text"},
	{Name: "mediumtext_gbk", Column: "MEDIUMTEXT CHARACTER SET gbk", Values: []string{"REPEAT('双', 40000)"}, Compare: asBytes, Type: "text"},
	{Name: "longtext", Column: "LONGTEXT", Values: []string{"''", "REPEAT('😀', 20000)"}, Compare: asBytes, Type: "text"},
	{Name: "enum", Column: "ENUM('a','b','it''s','x y')", Session: loose, Values: []string{"'a'", "'x y'", "'it''s'", "'nonsense'", "0"}, Compare: "CONCAT(HEX(%[1]s), ' ', %[1]s + 0)", Type: "enum"},
	{Name: "enum_gbk", Column: "ENUM('双','活') CHARACTER SET gbk", Values: []string{"'双'", "'活'"}, Compare: asBytes, Type: "enum"},
	{Name: "enum_empty", Column: "ENUM('','b')", Session: loose, Values: []string{"''", "'b'", "'nonsense'"}, Compare: "CONCAT(HEX(%[1]s), ' ', %[1]s + 0)", Type: "enum"},
	{Name: "enum_many", Column: "ENUM(" + manyLabels(300) + ")", Values: []string{"'v1'", "'v256'", "'v300'"}, Compare: asBytes, Type: "enum"},
	{Name: "enum_ucs2", Column: "ENUM('a','双') CHARACTER SET ucs2", Values: []string{"'a'", "'双'"}, Compare: asBytes, Type: "enum"},
	{Name: "set", Column: "SET('x','y','z')", Session: loose, Values: []string{"''", "'x'", "'x,z'", "'x,y,z'", "'nonsense'"}, Compare: asBytes, Type: "set"},
	{Name: "set64", Column: "SET(" + manyLabels(64) + ")", Values: []string{"''", "'v64'", "'v1,v64'", "18446744073709551615"}, Compare: asBytes, Type: "set"},
	{Name: "set_latin1", Column: "SET('é','ü') CHARACTER SET latin1", Values: []string{"'é,ü'"}, Compare: asBytes, Type: "set"},
}

var others = []Case{
	{Name: "json", Flavors: onMySQL, Column: "JSON", Values: []string{
		"'null'", "'true'", "'0'", "'-1'", "'18446744073709551615'", "'-9223372036854775808'", "'1.5'", "'1.0'", "'1e20'", "'1e-7'", "'100000000000000.0'", "'1e15'",
		"'0.1'", `'""'`, `'"双😀\\u0001\\n\\t\\"\\\\\\\\ /"'`, "'{}'", "'[]'", `'{"b": 1, "a": {"c": [1, 2, {"d": null}]}, "": ""}'`, "'[-32768, 32768, 65535, 2147483648, 4294967296]'",
		"JSON_ARRAY(CAST(REPEAT('x', 70000) AS CHAR))", "JSON_OBJECT('k', REPEAT('双', 100), 'l', 100000, 'm', JSON_ARRAY(REPEAT('y', 66000), 70000))",
	}, Compare: asText, Type: "json"},
	{Name: "json_opaque", Flavors: onMySQL, Column: "JSON", Session: loose, Values: []string{
		"JSON_OBJECT('d', CAST('1.10' AS DECIMAL(10,2)), 'n', CAST('-123456789012345678901234.5678' AS DECIMAL(40,4)))",
		"JSON_ARRAY(CAST('2024-01-31' AS DATE), CAST('-12:34:56.789' AS TIME(3)), CAST('2024-01-31 12:00:00.5' AS DATETIME(6)), TIMESTAMP '2024-01-31 12:00:00')",
		"JSON_ARRAY(CAST(X'00FF' AS BINARY), b'101', REPEAT(X'00FF', 100))",
		"CAST(CAST('1.10' AS DECIMAL(10,2)) AS JSON)",
		"CAST(CAST('-00:00:00.5' AS TIME(6)) AS JSON)",
		"CAST(TIMESTAMP '2024-01-31 12:00:00.000001' AS JSON)",
		"JSON_ARRAY(NULL, CAST('12345678901234567890123456789012345.123456789012345678901234567890' AS DECIMAL(65,30)), CAST('-1e-30' AS DECIMAL(65,30)), CAST(REPEAT('9', 65) AS DECIMAL(65)), CAST(0 AS DECIMAL(5,2)), CAST(7 AS DECIMAL))",
		`JSON_OBJECT('a"b\\.[0]*', JSON_OBJECT('双😀', JSON_ARRAY(1, JSON_ARRAY(CAST('0.10' AS DECIMAL(3,2))), NULL)), '', CAST('2024-01-31' AS DATE), CHAR(1,10 USING utf8mb4), CAST('5.0' AS DECIMAL(3,1)), '$', CAST('838:59:59' AS TIME))`,
		"JSON_ARRAY(CAST('0000-00-00' AS DATE), CAST('0000-00-00 00:00:00' AS DATETIME), CAST('2024-00-00' AS DATE), CAST('-838:59:59' AS TIME), CAST('9999-12-31 23:59:59.999999' AS DATETIME(6)))",
		"JSON_ARRAY('base64:type15:AP8=', '2024-01-31', '1.10', 1.10e0, X'', REPEAT(X'00FF', 10000))",
		"JSON_ARRAY(" + inJSON("BIT(11)", "5") + ", " + inJSON("BIT(64)", "18446744073709551615") + ", " + inJSON("BIT(1)", "0") + ")",
		"JSON_ARRAY(" + inJSON("TIMESTAMP(6)", `"2024-01-31 12:00:00.5"`) + ", " + inJSON("TIMESTAMP", `"2038-01-19 03:14:07"`) + ")",
		"JSON_ARRAY(" + inJSON("BINARY(4)", `"ab"`) + ", " + inJSON("BINARY(0)", `""`) + ", " + inJSON("VARBINARY(9)", `"ab"`) + ", " + inJSON("TINYBLOB", `"双"`) +
			", " + inJSON("BLOB", `""`) + ", " + inJSON("MEDIUMBLOB", `"ab"`) + ", " + inJSON("LONGBLOB", `"ab"`) + ")",
		"JSON_OBJECT('blob', REPEAT(X'00FF', 40000), 'd', CAST('2.50' AS DECIMAL(3,2)))",
	}, Compare: asDocument, Type: "json"},
	{Name: "json_mariadb", Flavors: onMariaDB, Column: "JSON", Values: []string{`'{"b":1,  "a":[1, 2.50]}'`, "'null'", `'"双😀"'`}, Compare: asBytes, Type: "text"},
	{Name: "geometry", Column: "GEOMETRY", Values: []string{"ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POLYGON((0 0,0 3,3 3,0 0))')", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))')"}, Compare: asBytes, Type: "geometry"},
	{Name: "point_srid", Flavors: onMySQL, Column: "POINT NOT NULL SRID 4326", NotNull: true, Values: []string{"ST_SRID(POINT(1,2),4326)", "ST_SRID(POINT(-179.5,89.25),4326)"}, Compare: asBytes, Type: "geometry"},
	{Name: "vector", Flavors: onMySQL, Column: "VECTOR(3)", Values: []string{"STRING_TO_VECTOR('[1,2,3]')", "STRING_TO_VECTOR('[-0.5,1e-37,3.4e37]')"}, Compare: asBytes, Type: "vector"},
	{Name: "inet4", Flavors: onMariaDB, Column: "INET4", Values: []string{"'0.0.0.0'", "'255.255.255.255'", "'10.1.2.0'", "'0.0.0.32'"}, Compare: "HEX(CAST(%s AS BINARY(4)))", Type: "binary"},
	{Name: "inet6", Flavors: onMariaDB, Column: "INET6", Values: []string{"'::'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'", "'2001:db8::'", "'::20'"}, Compare: "HEX(CAST(%s AS BINARY(16)))", Type: "binary"},
	{Name: "uuid", Flavors: onMariaDB, Column: "UUID", Values: []string{
		"'00112233-4455-6677-8899-aabbccddeeff'", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
		"'f47ac10b-58cc-1372-8567-0e02b2c3d479'", "'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "'017f22e2-79b0-7cc3-98c4-dc0c0c07398f'", "'320c3d4d-cc00-875b-8ec9-32d5f69181c0'",
	}, Compare: "HEX(CAST(%s AS BINARY(16)))", Type: "binary"},
}

// inJSON is a value inside JSON with the type of a column, which reads it from JSON text.
func inJSON(column, text string) string {
	return "JSON_EXTRACT((SELECT JSON_ARRAY(c) FROM JSON_TABLE('[" + text + "]', '$[*]' COLUMNS (c " + column + " PATH '$')) t), '$[0]')"
}

func manyLabels(n int) string {
	var labels []string
	for i := range n {
		labels = append(labels, fmt.Sprintf("'v%d'", i+1))
	}
	return strings.Join(labels, ",")
}
