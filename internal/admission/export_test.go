package admission

// Running is how many executions the account has now.
func (c *Counter) Running() int {
	n := c.unreserved
	for _, f := range c.functions {
		if f.reserved >= 0 {
			n += f.running
		}
	}
	return n
}
