package shop

import (
	"context"
	"database/sql"
	"fmt"
)

// Database is where the demo keeps the shop.
const Database = "shop"

// Every table has a primary key and, where rows change, an updated_at that the
// server moves: newest-wins reads it. Foreign keys restrict, they never cascade:
// a cascade is not in the binlog.
var tables = []struct{ name, body string }{
	{"merchants", `
		id         BIGINT NOT NULL PRIMARY KEY,
		name       VARCHAR(120) NOT NULL,
		home       TINYINT UNSIGNED NOT NULL COMMENT 'datacenter number',
		status     ENUM('active','paused','closed') NOT NULL DEFAULT 'active',
		rating     DECIMAL(3,2) NULL,
		settings   JSON NULL,
		created_at DATETIME(6) NOT NULL,
		updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)`},
	{"products", `
		id           BIGINT NOT NULL PRIMARY KEY,
		merchant_id  BIGINT NOT NULL,
		sku          VARCHAR(40) NOT NULL,
		name         VARCHAR(200) NOT NULL,
		description  TEXT NULL,
		price        DECIMAL(12,2) NOT NULL,
		currency     CHAR(3) CHARACTER SET ascii NOT NULL DEFAULT 'CNY',
		status       ENUM('draft','on_sale','sold_out','retired') NOT NULL DEFAULT 'on_sale',
		tags         SET('new','hot','fresh','fragile','imported') NOT NULL DEFAULT '',
		weight_grams INT UNSIGNED NULL,
		attributes   JSON NULL,
		created_at   DATETIME(6) NOT NULL,
		updated_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
		UNIQUE KEY sku (sku),
		CONSTRAINT products_merchant FOREIGN KEY (merchant_id) REFERENCES merchants (id)`},
	{"inventory", `
		product_id BIGINT NOT NULL PRIMARY KEY,
		available  INT NOT NULL,
		reserved   INT NOT NULL DEFAULT 0,
		updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
		CONSTRAINT inventory_product FOREIGN KEY (product_id) REFERENCES products (id)`},
	{"carts", `
		user_id    BIGINT NOT NULL PRIMARY KEY,
		items      INT UNSIGNED NOT NULL DEFAULT 0,
		channel    ENUM('web','app','mini') NOT NULL DEFAULT 'app',
		updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)`},
	{"cart_items", `
		user_id    BIGINT NOT NULL,
		product_id BIGINT NOT NULL,
		quantity   SMALLINT UNSIGNED NOT NULL,
		price      DECIMAL(12,2) NOT NULL,
		updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
		PRIMARY KEY (user_id, product_id)`},
	{"orders", `
		id         BIGINT NOT NULL PRIMARY KEY,
		user_id    BIGINT NOT NULL,
		status     ENUM('placed','paid','shipped','delivered','cancelled') NOT NULL DEFAULT 'placed',
		total      DECIMAL(14,2) NOT NULL,
		address    JSON NULL,
		note       VARCHAR(255) NULL,
		placed_at  DATETIME(6) NOT NULL,
		updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
		KEY user_placed (user_id, placed_at)`},
	{"order_items", `
		order_id   BIGINT NOT NULL,
		line       TINYINT UNSIGNED NOT NULL,
		product_id BIGINT NOT NULL,
		quantity   SMALLINT UNSIGNED NOT NULL,
		price      DECIMAL(12,2) NOT NULL,
		PRIMARY KEY (order_id, line),
		CONSTRAINT order_items_order FOREIGN KEY (order_id) REFERENCES orders (id)`},
	{"payments", `
		id         BIGINT NOT NULL PRIMARY KEY,
		order_id   BIGINT NOT NULL,
		method     ENUM('card','alipay','wechat','unionpay') NOT NULL,
		amount     DECIMAL(14,2) NOT NULL,
		reference  VARBINARY(16) NOT NULL,
		paid_at    DATETIME(6) NOT NULL,
		updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
		UNIQUE KEY order_id (order_id),
		CONSTRAINT payments_order FOREIGN KEY (order_id) REFERENCES orders (id)`},
	{"probe", `
		id         BIGINT NOT NULL PRIMARY KEY,
		written_at DATETIME(6) NOT NULL COMMENT 'writer''s clock, UTC'`},
}

// Tables returns the names of the shop's tables, parents before children.
func Tables() []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.name
	}
	return names
}

// Create makes the shop's tables in the default database of db. It fails if one exists.
func Create(ctx context.Context, db *sql.DB) error {
	for _, t := range tables {
		if _, err := db.ExecContext(ctx, "CREATE TABLE "+t.name+" ("+t.body+"\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"); err != nil {
			return fmt.Errorf("create table %s: %w", t.name, err)
		}
	}
	return nil
}
