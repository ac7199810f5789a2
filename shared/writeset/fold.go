package writeset

import (
	"strings"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
)

// fold turns values into bytes that are equal whenever the server's index
// finds the values equal.
type fold uint8

const (
	exact     fold = iota // by bytes
	number                // by bytes, but -0 equals 0
	padded                // by bytes, but trailing spaces do not count
	asciiCase             // printable ASCII: regardless of case and trailing spaces; else unknown
	unknown
)

// foldOf chooses by type and collation.
func foldOf(c *event.Column, info *tableinfo.Table) fold {
	switch c.Type {
	case event.Float, event.Double, event.Decimal:
		return number
	case event.Char, event.VarChar, event.Text:
	case event.JSON:
		return unknown
	default:
		return exact
	}
	i := info.Column(c.Name)
	if i < 0 {
		return unknown
	}
	return foldOfCollation(info.Columns[i].Collation)
}

// Families of collations in which printable ASCII is equal exactly when it is
// equal regardless of case and trailing spaces: they tell punctuation
// apart and contract no ASCII letters. A case-sensitive one is folded
// all the same, which errs on the safe side.
var families = map[string]bool{
	"general_ci": true, "general_nopad_ci": true, "unicode_ci": true, "unicode_nopad_ci": true, "unicode_520_ci": true, "unicode_520_nopad_ci": true,
	"0900_ai_ci": true, "0900_as_ci": true, "0900_as_cs": true,
	"uca1400_ai_ci": true, "uca1400_as_ci": true, "uca1400_as_cs": true, "uca1400_ai_cs": true,
	"uca1400_nopad_ai_ci": true, "uca1400_nopad_as_ci": true, "uca1400_nopad_as_cs": true, "uca1400_nopad_ai_cs": true,
	"swedish_ci": true, "swedish_nopad_ci": true,
}

func foldOfCollation(collation string) fold {
	charset, family, _ := strings.Cut(collation, "_")
	if charset == "uca1400" { // older MariaDB leaves the character set out
		charset, family = "utf8mb4", collation
	}
	switch charset {
	case "binary":
		return exact
	case "utf16", "utf16le", "utf32", "ucs2", "":
		return unknown // a space is not the byte 0x20
	}
	if family == "bin" || strings.HasSuffix(family, "_bin") {
		return padded
	}
	switch charset {
	case "utf8mb4", "utf8mb3", "utf8":
		if families[family] && !strings.HasPrefix(family, "swedish") {
			return asciiCase
		}
	case "ascii":
		if family == "general_ci" || family == "general_nopad_ci" {
			return asciiCase
		}
	case "latin1":
		if family == "swedish_ci" || family == "swedish_nopad_ci" || family == "general_ci" {
			return asciiCase
		}
	}
	return unknown
}

// apply returns the folded bytes of a value of which an index holds the first
// prefix characters (0: all), using buf if it needs room. ok is false when
// they cannot be told.
func (f fold) apply(buf, data []byte, prefix int) (folded []byte, ok bool) {
	switch f {
	case exact:
		if prefix > 0 && prefix < len(data) {
			data = data[:prefix]
		}
		return data, true
	case number:
		if len(data) > 1 && data[0] == '-' && strings.Trim(string(data[1:]), "0.") == "" {
			data = data[1:]
		}
		return data, true
	case padded:
		if prefix > 0 {
			if !printable(data) {
				return nil, false
			}
			data = data[:min(prefix, len(data))]
		}
		return trim(data), true
	case asciiCase:
		if !printable(data) {
			return nil, false
		}
		if prefix > 0 {
			data = data[:min(prefix, len(data))]
		}
		data = trim(data)
		for _, c := range data {
			buf = append(buf, lower(c))
		}
		return buf, true
	}
	return nil, false
}

func printable(data []byte) bool {
	for _, c := range data {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

func trim(data []byte) []byte {
	for len(data) > 0 && data[len(data)-1] == ' ' {
		data = data[:len(data)-1]
	}
	return data
}
