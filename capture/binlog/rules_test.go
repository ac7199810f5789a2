package binlog

import "testing"

func TestRulesNameTheChoice(t *testing.T) {
	t.Parallel()
	same := [2]Config{{Include: []string{"b", "a", "b"}, Exclude: []string{"c.*"}}, {Include: []string{"a", "b"}, Exclude: []string{"c.*"}}}
	if a, b := same[0].Rules(), same[1].Rules(); a != b || a != "include a,b; exclude c.*" {
		t.Errorf("%q and %q", a, b)
	}
	if r := (&Config{}).Rules(); r != "" {
		t.Errorf("everything is %q", r)
	}
	if (&Config{Include: []string{"a"}}).Rules() == (&Config{Exclude: []string{"a"}}).Rules() {
		t.Error("include and exclude are told apart by nothing")
	}
}
