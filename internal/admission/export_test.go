package admission

// Running is how many executions the account has now.
func (c *Counter) Running() int {
	n := c.unreserved
	for _, f := range c.functions {
		for _, p := range f.parts {
			n += p.running
			if f.reserved < 0 {
				n -= p.over()
			}
		}
	}
	return n
}
