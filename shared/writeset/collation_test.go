package writeset_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tandem-dc/tandem/shared/event"
	"github.com/tandem-dc/tandem/shared/tableinfo"
	"github.com/tandem-dc/tandem/shared/writeset"
	"github.com/tandem-dc/tandem/testbench/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }

// What a server's collation finds equal must share a key, for every collation
// that the server has and every pair of printable ASCII characters, with trailing
// spaces; and in the collations that most tables use, nothing else may.
func TestEveryCollationOfTheServers(t *testing.T) {
	precise := []string{"utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_bin", "latin1_swedish_ci", "utf8mb4_0900_ai_ci", "utf8mb4_uca1400_ai_ci"}
	servers.EachFlavor(t, func(t *testing.T, m *servers.MySQL) {
		rows, err := m.Admin("").QueryContext(t.Context(), "SELECT collation_name FROM information_schema.collation_character_set_applicability")
		if m.Flavor == "mariadb" {
			rows, err = m.Admin("").QueryContext(t.Context(), "SELECT full_collation_name FROM information_schema.collation_character_set_applicability")
		}
		if err != nil {
			t.Fatal(err)
		}
		var collations []string
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			collations = append(collations, s)
		}
		if err := rows.Err(); err != nil || len(collations) < 100 {
			t.Fatalf("%d collations, %v", len(collations), err)
		}
		exact := 0
		for _, c := range collations {
			if c == "binary" || strings.HasPrefix(c, "swe7_") { // swe7 has letters where ASCII has signs
				continue
			}
			equal, err := equalities(t, m, c)
			if err != nil {
				t.Logf("%s: %v", c, err)
				continue
			}
			key := keyOf(c)
			if wild := key([]byte("a"))[0].Wild; wild {
				continue
			}
			exact++
			var wrong, needless []string
			for a := byte(0x20); a < 0x7f; a++ {
				for b := byte(0x20); b < 0x7f; b++ {
					same := key([]byte{'k', a})[0] == key([]byte{'k', b, ' '})[0]
					if want := equal[string([]byte{a, b})]; want && !same {
						wrong = append(wrong, fmt.Sprintf("%c=%c", a, b))
					} else if same && !want {
						needless = append(needless, fmt.Sprintf("%c=%c", a, b))
					}
				}
			}
			if len(wrong) > 0 {
				t.Errorf("%s finds equal what has different keys: %q", c, wrong)
			}
			for _, p := range precise {
				if p == c && len(needless) > 0 && !strings.Contains(c, "0900") {
					t.Errorf("%s tells apart what has the same key: %q", c, needless)
				}
			}
		}
		t.Logf("%d of %d collations have exact keys", exact, len(collations))
		if exact < 20 {
			t.Error("hardly any collation has exact keys")
		}
	})
}

// equalities asks which of k<a> and k<b><space> are equal, for printable ASCII a and b.
func equalities(t *testing.T, m *servers.MySQL, collation string) (map[string]bool, error) {
	charset, _, _ := strings.Cut(collation, "_")
	conv := func(s string) string { return "CONVERT(" + s + " USING " + charset + ") COLLATE " + collation }
	query := "WITH RECURSIVE n (i) AS (SELECT 32 UNION ALL SELECT i + 1 FROM n WHERE i < 126) SELECT a.i, b.i FROM n a JOIN n b ON " +
		conv("CONCAT('k', CHAR(a.i USING ascii))") + " = " + conv("CONCAT('k', CHAR(b.i USING ascii), ' ')")
	rows, err := m.Admin("").QueryContext(t.Context(), query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	equal := map[string]bool{}
	for rows.Next() {
		var a, b byte
		if err := rows.Scan(&a, &b); err != nil {
			return nil, err
		}
		equal[string([]byte{a, b})] = true
	}
	return equal, rows.Err()
}

func keyOf(collation string) func(v []byte) []writeset.Key {
	info := &tableinfo.Table{DB: "d", Name: "t", Columns: []tableinfo.Column{{Name: "c", Collation: collation}},
		Unique: []tableinfo.Index{{Name: "PRIMARY", Primary: true, Columns: []string{"c"}, Prefix: []int{0}}}}
	plan := writeset.NewPlan(info, []event.Column{{Name: "c", Type: event.VarChar}})
	return func(v []byte) []writeset.Key {
		row := event.Row{Op: event.Insert, After: []event.Value{{Kind: event.Data, Data: v}}}
		return plan.Append(nil, &row)
	}
}
