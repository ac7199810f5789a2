package shop

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// kinds lists the transactions with their share of the load. prepare makes all
// random choices, so that a retry repeats the same transaction.
var kinds = [kindCount]struct {
	name    string
	weight  int
	prepare func(l *Load, r *rand.Rand) func(*txn) error
}{
	{"add to cart", 30, (*Load).addToCart},
	{"place order", 32, (*Load).placeOrder},
	{"pay", 18, (*Load).pay},
	{"ship", 8, (*Load).ship},
	{"change product", 5, (*Load).changeProduct},
	{"restock", 7, (*Load).restock},
	{"contest", 0, nil}, // chosen by the slot, see contest
}

const (
	kindCount   = 7
	kindContest = kindCount - 1
)

// Kinds returns the names of the transactions, in the order of Stats.ByKind.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i := range kinds {
		names[i] = kinds[i].name
	}
	return names
}

func (l *Load) choose(r *rand.Rand) int {
	n := r.IntN(100)
	for k := range kinds {
		if n -= kinds[k].weight; n < 0 {
			return k
		}
	}
	return 0
}

// Ids of users and products that live here.
func (l *Load) user(r *rand.Rand) int64 { return seeded(l.cfg.DC, 1+r.IntN(l.cfg.Catalog.Users)) }
func (l *Load) product(r *rand.Rand) int64 {
	return seeded(l.cfg.DC, 1+r.IntN(l.cfg.Catalog.products()))
}

func (l *Load) addToCart(r *rand.Rand) func(*txn) error {
	user, product, quantity, cost := l.user(r), l.product(r), 1+r.IntN(3), price(r)
	channel := []string{"web", "app", "mini"}[r.IntN(3)]
	return func(t *txn) error {
		err := t.exec(sqlCart, user, channel)
		if err != nil {
			return err
		}
		return t.exec(sqlCartItem, user, product, quantity, cost)
	}
}

type line struct {
	product  int64
	quantity int
	cents    int64
}

// placeOrder buys what is in the cart, or two or three products directly.
func (l *Load) placeOrder(r *rand.Rand) func(*txn) error {
	user := l.user(r)
	direct := make([]line, 0, 3)
	for range 2 + r.IntN(2) {
		direct = append(direct, line{l.product(r), 1 + r.IntN(3), int64(100 + r.IntN(99900))})
	}
	slices.SortFunc(direct, func(a, b line) int { return int(a.product - b.product) })
	direct = slices.CompactFunc(direct, func(a, b line) bool { return a.product == b.product })
	address := fmt.Sprintf(`{"city": %q, "street": "%d 中山路", "zip": "%06d"}`, []string{"北京", "广州"}[r.IntN(2)], r.IntN(500), r.IntN(1000000))
	return func(t *txn) error {
		id, err := l.ids.Next()
		if err != nil {
			return err
		}
		lines, err := t.cart(user)
		if err != nil {
			return err
		}
		fromCart := len(lines) > 0
		if !fromCart {
			lines = direct
		}
		total := int64(0)
		for _, x := range lines {
			total += int64(x.quantity) * x.cents
		}
		if err := t.exec(sqlOrder,
			id, user, money(total), address, nil); err != nil {
			return err
		}
		if err := t.insertLines(id, lines); err != nil {
			return err
		}
		if err := t.takeStock(lines); err != nil {
			return err
		}
		if fromCart {
			if err := t.exec(sqlClearItems, user); err != nil {
				return err
			}
			if err := t.exec(sqlClearCart, user); err != nil {
				return err
			}
		}
		t.onCommit(func() { l.push(&l.unpaid, order{id, total}) })
		return nil
	}
}

// cart reads at most maxLines lines, by product, and locks them.
func (t *txn) cart(user int64) ([]line, error) {
	rows, err := t.query(sqlReadCart, user)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var lines []line
	for rows.Next() {
		var x line
		var cost string
		if err := rows.Scan(&x.product, &x.quantity, &cost); err != nil {
			return nil, err
		}
		if x.cents, err = strconv.ParseInt(strings.Replace(cost, ".", "", 1), 10, 64); err != nil {
			return nil, fmt.Errorf("price %q: %w", cost, err)
		}
		lines = append(lines, x)
	}
	return lines, rows.Err()
}

func (t *txn) insertLines(order int64, lines []line) error {
	var args []any
	for i, x := range lines {
		args = append(args, order, i+1, x.product, x.quantity, money(x.cents))
	}
	return t.exec(sqlLines(len(lines)), args...)
}

// takeStock decrements all products in one statement. Stock may fall below zero:
// what that means is the merchant's affair.
func (t *txn) takeStock(lines []line) error {
	var args, products []any
	for _, x := range lines {
		args = append(args, x.product, x.quantity)
		products = append(products, x.product)
	}
	return t.exec(sqlTakeStock(len(lines)), append(args, products...)...)
}

func (l *Load) pay(r *rand.Rand) func(*txn) error {
	o, ok := l.pop(&l.unpaid)
	if !ok {
		return l.placeOrder(r)
	}
	method := []string{"card", "alipay", "wechat", "unionpay"}[r.IntN(4)]
	reference := binary.BigEndian.AppendUint64(nil, r.Uint64())
	return func(t *txn) error {
		id, err := l.ids.Next()
		if err != nil {
			return err
		}
		if err := t.exec(sqlPayment,
			id, o.id, method, money(o.cents), reference); err != nil {
			return err
		}
		t.onCommit(func() { l.push(&l.unshipped, o) })
		return t.exec(sqlPaid, o.id)
	}
}

func (l *Load) ship(r *rand.Rand) func(*txn) error {
	o, ok := l.pop(&l.unshipped)
	if !ok {
		return l.pay(r)
	}
	note := fmt.Sprintf("SF%012d", r.IntN(1e12))
	return func(t *txn) error {
		return t.exec(sqlShipped, note, o.id)
	}
}

func (l *Load) changeProduct(r *rand.Rand) func(*txn) error {
	return l.change(r, l.product(r))
}

func (l *Load) change(r *rand.Rand, product int64) func(*txn) error {
	cost, name, attr := price(r), productName(r, r.IntN(1000)), attributes(r)
	return func(t *txn) error {
		return t.exec(sqlProduct, cost, name, attr, product)
	}
}

func (l *Load) restock(r *rand.Rand) func(*txn) error {
	product, n := l.product(r), 10+r.IntN(500)
	return func(t *txn) error {
		return t.exec(sqlRestock, n, n%10, product)
	}
}

// contest changes a product that every datacenter changes in the same slot, if
// slot n is one for that. Where rates and starts are equal, so are the moments,
// and none of the writers has seen the others.
func (l *Load) contest(n uint64, own *rand.Rand) (run func(*txn) error, ok bool) {
	r := rand.New(rand.NewPCG(l.cfg.Seed, n)) // the same everywhere, unlike own
	if r.Float64() >= l.cfg.Conflicts {
		return nil, false
	}
	home := l.cfg.Catalog.DCs[r.IntN(len(l.cfg.Catalog.DCs))]
	return l.change(own, seeded(home, 1+r.IntN(l.cfg.Catalog.products()))), true
}

// maxRemembered bounds the orders that wait for payment or shipping; older ones stay as they are.
const maxRemembered = 10000

func (l *Load) push(queue *[]order, o order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(*queue) < maxRemembered {
		*queue = append(*queue, o)
	}
}

func (l *Load) pop(queue *[]order) (order, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(*queue) == 0 {
		return order{}, false
	}
	o := (*queue)[0]
	*queue = (*queue)[1:]
	return o, true
}

func money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
