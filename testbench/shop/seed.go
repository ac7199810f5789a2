package shop

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Catalog is what exists before the load starts. It is the same in every
// datacenter; each of them is home to an equal part.
type Catalog struct {
	DCs                 []int // numbers of the datacenters; defaults to 1 and 2
	Merchants           int   // per datacenter; defaults to 20
	ProductsPerMerchant int   // defaults to 10
	Users               int   // per datacenter, without rows of their own until they shop; defaults to 2000
}

func (c Catalog) withDefaults() Catalog {
	if len(c.DCs) == 0 {
		c.DCs = []int{1, 2}
	}
	c.Merchants = cmp.Or(c.Merchants, 20)
	c.ProductsPerMerchant = cmp.Or(c.ProductsPerMerchant, 10)
	c.Users = cmp.Or(c.Users, 2000)
	return c
}

func (c Catalog) check() error {
	for _, dc := range c.DCs {
		if dc < 1 || dc > MaxDC {
			return fmt.Errorf("catalog: datacenter number %d is not within 1 to %d", dc, MaxDC)
		}
	}
	if c.Merchants < 1 || c.ProductsPerMerchant < 1 || c.Users < 1 {
		return fmt.Errorf("catalog: merchants, products per merchant and users must be positive")
	}
	return nil
}

func (c Catalog) products() int { return c.Merchants * c.ProductsPerMerchant }

const seedTime = "2025-01-01 00:00:00.000000"

// seedBatch rows go into one INSERT.
const seedBatch = 200

// Seed fills the tables that Create made. It writes the same bytes wherever it
// runs, so it is run in each datacenter before replication starts.
func Seed(ctx context.Context, db *sql.DB, c Catalog) error {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 1))
	merchants := batch{db: db, head: "INSERT INTO merchants (id,name,home,status,rating,settings,created_at,updated_at) VALUES ", columns: 8}
	products := batch{db: db, head: "INSERT INTO products (id,merchant_id,sku,name,description,price,status,tags,weight_grams,attributes,created_at,updated_at) VALUES ", columns: 12}
	inventory := batch{db: db, head: "INSERT INTO inventory (product_id,available,updated_at) VALUES ", columns: 3}
	for _, dc := range c.DCs {
		for n := 1; n <= c.Merchants; n++ {
			err := merchants.add(ctx, seeded(dc, n), fmt.Sprintf("商家 %d-%d", dc, n), dc, "active", fmt.Sprintf("%d.%02d", 3+r.IntN(2), r.IntN(100)),
				fmt.Sprintf(`{"invoice": %v, "channels": ["web", "app"]}`, n%2 == 0), seedTime, seedTime)
			if err != nil {
				return err
			}
		}
	}
	if err := merchants.flush(ctx); err != nil {
		return err
	}
	for _, dc := range c.DCs {
		for n := 1; n <= c.products(); n++ {
			merchant := seeded(dc, (n-1)/c.ProductsPerMerchant+1)
			err := products.add(ctx, seeded(dc, n), merchant, fmt.Sprintf("SKU-%d-%06d", dc, n), productName(r, n), description(r),
				price(r), "on_sale", tags[r.IntN(len(tags))], 50+r.IntN(5000), attributes(r), seedTime, seedTime)
			if err != nil {
				return err
			}
		}
	}
	if err := products.flush(ctx); err != nil {
		return err
	}
	for _, dc := range c.DCs {
		for n := 1; n <= c.products(); n++ {
			if err := inventory.add(ctx, seeded(dc, n), 1000+r.IntN(9000), seedTime); err != nil {
				return err
			}
		}
	}
	return inventory.flush(ctx)
}

// batch collects rows of one table into multi-row inserts.
type batch struct {
	db      *sql.DB
	head    string
	columns int
	args    []any
}

func (b *batch) add(ctx context.Context, values ...any) error {
	b.args = append(b.args, values...)
	if len(b.args) < seedBatch*b.columns {
		return nil
	}
	return b.flush(ctx)
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.args) == 0 {
		return nil
	}
	query := b.head + rows(len(b.args)/b.columns, b.columns)
	if _, err := b.db.ExecContext(ctx, query, b.args...); err != nil {
		return fmt.Errorf("seed: %.40s...: %w", b.head, err)
	}
	b.args = b.args[:0]
	return nil
}

// rows returns n groups of placeholders, "(?,?),(?,?)".
func rows(n, columns int) string {
	row := "(?" + strings.Repeat(",?", columns-1) + ")"
	return row + strings.Repeat(","+row, n-1)
}

var (
	tags   = []string{"", "new", "hot", "new,hot", "fresh", "fragile,imported"}
	nouns  = []string{"茶叶 Tea", "Küchenmesser", "毛笔 Brush", "Teapot 茶壶", "Silk scarf 丝巾", "Dumplings 饺子 🥟", "Lantern 灯笼 🏮", "Café crème"}
	colors = []string{"red", "青", "gold", "schwarz", "白"}
)

func productName(r *rand.Rand, n int) string {
	return fmt.Sprintf("%s no. %d", nouns[r.IntN(len(nouns))], n)
}

func description(r *rand.Rand) string {
	return strings.Repeat("Made by hand, 手工制作, \"as you like it\". ", 1+r.IntN(4))
}

func price(r *rand.Rand) string { return fmt.Sprintf("%d.%02d", 1+r.IntN(999), r.IntN(100)) }

func attributes(r *rand.Rand) string {
	return fmt.Sprintf(`{"color": %q, "size": %d, "ratings": [%d, %d, %d]}`, colors[r.IntN(len(colors))], r.IntN(50), r.IntN(100), r.IntN(100), r.IntN(100))
}
