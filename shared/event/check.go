package event

import "fmt"

func (t *Table) check() error {
	if t.DB == "" || t.Name == "" {
		return fmt.Errorf("db or name is missing")
	}
	if len(t.Columns) == 0 {
		return fmt.Errorf("%s.%s has 0 columns", t.DB, t.Name)
	}
	if i := t.repeatedName(); i >= 0 {
		return fmt.Errorf("%s.%s: column %d has no name or a repeated one", t.DB, t.Name, i)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		if !c.Type.known() {
			return fmt.Errorf("%s.%s: column %s has the unknown type %.40q", t.DB, t.Name, c.Name, c.Type)
		}
	}
	for _, k := range t.Key {
		if k < 0 || k >= len(t.Columns) {
			return fmt.Errorf("%s.%s: key column %d does not exist", t.DB, t.Name, k)
		}
	}
	return nil
}

// repeatedName returns the index of a column without a name or with that of an
// earlier one, else -1.
func (t *Table) repeatedName() int {
	seen := make(map[string]bool, len(t.Columns))
	for i := range t.Columns {
		name := t.Columns[i].Name
		if name == "" || seen[name] {
			return i
		}
		seen[name] = true
	}
	return -1
}

// checkImages holds the images of r against its operation.
func (r *Row) checkImages() error {
	var before, after bool
	switch r.Op {
	case Insert:
		after = true
	case Update:
		before, after = true, true
	case Delete:
		before = true
	default:
		return fmt.Errorf("op %q is none of c, u, d", string(rune(r.Op)))
	}
	if before != (r.Before != nil) {
		return fmt.Errorf("before image: present is %v, the operation wants %v", r.Before != nil, before)
	}
	if after != (r.After != nil) {
		return fmt.Errorf("after image: present is %v, the operation wants %v", r.After != nil, after)
	}
	return nil
}

// check holds r against the table it names.
func (r *Row) check(tables []Table) error {
	if r.Table < 0 || r.Table >= len(tables) {
		return fmt.Errorf("table %d is not in the payload", r.Table)
	}
	columns := tables[r.Table].Columns
	if err := checkImage("before", r.Before, columns); err != nil {
		return err
	}
	return checkImage("after", r.After, columns)
}

func checkImage(name string, image []Value, columns []Column) error {
	if image != nil && len(image) != len(columns) {
		return fmt.Errorf("%s image has %d values for %d columns", name, len(image), len(columns))
	}
	typed := false
	for i := range image {
		typed = typed || image[i].Typed != nil
		if image[i].Kind == Zero && columns[i].Type != Enum {
			return fmt.Errorf("%s image: %s is 0 but no enum", name, columns[i].Name)
		}
	}
	if typed {
		if err := checkTyped(image, columns); err != nil {
			return fmt.Errorf("%s image: %w", name, err)
		}
	}
	return nil
}
