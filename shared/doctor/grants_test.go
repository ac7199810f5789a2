package doctor

import (
	"slices"
	"testing"
)

func TestParseGrant(t *testing.T) {
	for _, tt := range []struct {
		line       string
		ok         bool
		privileges []string
		db, table  string
		revoke     bool
	}{
		{"GRANT USAGE ON *.* TO `u`@`%`", true, []string{"USAGE"}, "%", "*", false},
		{"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED BY PASSWORD '*AB' WITH GRANT OPTION", true, []string{"ALL PRIVILEGES"}, "%", "*", false},
		{"GRANT SELECT, INSERT, REPLICATION SLAVE ON *.* TO `u`@`%`", true, []string{"SELECT", "INSERT", "REPLICATION SLAVE"}, "%", "*", false},
		{"GRANT SELECT ON `my\\_db`.* TO `u`@`%`", true, []string{"SELECT"}, `my\_db`, "*", false},
		{"GRANT SELECT (`a`, `b`), INSERT, UPDATE (`c`) ON `d`.`t` TO `u`@`%`", true, []string{"INSERT"}, "d", "t", false},
		{"GRANT SELECT ON `a ON b`.`x.y` TO `u`@`%`", true, []string{"SELECT"}, "a ON b", "x.y", false},
		{"GRANT SELECT ON \"d\".* TO \"u\"@\"%\"", true, []string{"SELECT"}, "d", "*", false},
		{"REVOKE SELECT ON `d`.* FROM `u`@`%`", true, []string{"SELECT"}, "d", "*", true},
		{"GRANT `role`@`%` TO `u`@`%`", false, nil, "", "", false},
		{"GRANT EXECUTE ON PROCEDURE `d`.`p` TO `u`@`%`", false, nil, "", "", false},
		{"GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION", false, nil, "", "", false},
		{"SET DEFAULT ROLE `r` FOR `u`@`%`", false, nil, "", "", false},
		{"", false, nil, "", "", false},
	} {
		g, ok := parseGrant(tt.line)
		if ok != tt.ok || ok && (!slices.Equal(g.privileges, tt.privileges) || g.db != tt.db || g.table != tt.table || g.revoke != tt.revoke) {
			t.Errorf("%s: %+v, %v", tt.line, g, ok)
		}
	}
}

func FuzzParseGrant(f *testing.F) {
	f.Add("GRANT SELECT (`a`, `b`), INSERT ON `d`.`t` TO `u`@`%`")
	f.Add("REVOKE ALL ON `")
	f.Fuzz(func(t *testing.T, line string) {
		if g, ok := parseGrant(line); ok {
			g.covers("d", "t") // must end, whatever the pattern
		}
	})
}

func TestLike(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"%", "", true}, {"%", "x", true}, {"shop", "shop", true}, {"shop", "shops", false}, {"sh_p", "shop", true}, {`sh\_p`, "shop", false},
		{`sh\_p`, "sh_p", true}, {"s%", "shop", true}, {"%op", "shop", true}, {"s%x", "shop", false}, {`s\%`, "shop", false}, {"", "", true}, {"_", "", false},
	} {
		if got := like(tt.pattern, tt.s); got != tt.want {
			t.Errorf("%q LIKE %q: %v", tt.s, tt.pattern, got)
		}
	}
}

func TestRights(t *testing.T) {
	a := &account{}
	for _, line := range []string{"GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `secret`.* FROM `u`@`%`", "GRANT INSERT ON `d`.`t` TO `u`@`%`"} {
		g, ok := parseGrant(line)
		if !ok {
			t.Fatal(line)
		}
		a.grants = append(a.grants, g)
	}
	one, two := []tableInfo{{db: "d", name: "t"}}, []tableInfo{{db: "d", name: "t"}, {db: "d", name: "u"}}
	for name, got := range map[string]bool{
		"global right":               a.may("SELECT", "d", ""),
		"table's right":              a.may("INSERT", "d", "t"),
		"table's rights add up":      a.mayEach("INSERT", "d", one),
		"not a database's right":     !a.may("INSERT", "d", ""),
		"not another table's":        !a.mayEach("INSERT", "d", two),
		"partial revoke":             !a.may("SELECT", "secret", ""),
		"no right at all":            !a.may("DELETE", "d", "t"),
		"a database's is not global": !a.global("INSERT"),
		"global":                     a.global("SELECT"),
	} {
		if !got {
			t.Error(name)
		}
	}
}
