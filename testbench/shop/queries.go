package shop

import "strings"

// maxLines bounds the lines of an order.
const maxLines = 5

// The statements of the load.
const (
	sqlCart     = "INSERT INTO carts (user_id,items,channel) VALUES (?,1,?) ON DUPLICATE KEY UPDATE items=items+1, channel=VALUES(channel)"
	sqlCartItem = "INSERT INTO cart_items (user_id,product_id,quantity,price) VALUES (?,?,?,?) " +
		"ON DUPLICATE KEY UPDATE quantity=LEAST(quantity+VALUES(quantity),999), price=VALUES(price)"
	sqlReadCart   = "SELECT product_id,quantity,price FROM cart_items WHERE user_id=? ORDER BY product_id LIMIT 5 FOR UPDATE" // maxLines
	sqlOrder      = "INSERT INTO orders (id,user_id,total,address,note,placed_at) VALUES (?,?,?,?,?,UTC_TIMESTAMP(6))"
	sqlClearItems = "DELETE FROM cart_items WHERE user_id=?"
	sqlClearCart  = "UPDATE carts SET items=0 WHERE user_id=?"
	sqlPayment    = "INSERT INTO payments (id,order_id,method,amount,reference,paid_at) VALUES (?,?,?,?,?,UTC_TIMESTAMP(6))"
	sqlPaid       = "UPDATE orders SET status='paid' WHERE id=?"
	sqlShipped    = "UPDATE orders SET status='shipped', note=? WHERE id=?"
	sqlProduct    = "UPDATE products SET price=?, name=?, attributes=? WHERE id=?"
	sqlRestock    = "UPDATE inventory SET available=available+?, reserved=? WHERE product_id=?"
)

func sqlLines(n int) string {
	return "INSERT INTO order_items (order_id,line,product_id,quantity,price) VALUES " + rows(n, 5)
}

// sqlTakeStock decrements n products.
func sqlTakeStock(n int) string {
	return "UPDATE inventory SET available=available-CASE product_id" + strings.Repeat(" WHEN ? THEN ?", n) + " END WHERE product_id IN " + rows(1, n)
}

// queries lists every statement that a transaction may use.
func queries() []string {
	all := []string{sqlCart, sqlCartItem, sqlReadCart, sqlOrder, sqlClearItems, sqlClearCart, sqlPayment, sqlPaid, sqlShipped, sqlProduct, sqlRestock}
	for n := 1; n <= maxLines; n++ {
		all = append(all, sqlLines(n), sqlTakeStock(n))
	}
	return all
}
