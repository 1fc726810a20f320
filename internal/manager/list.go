package manager

import "iter"

// list keeps things in the order they were put in; a thing is in a list at most once, by its own link.
type list[T linked[T]] struct {
	first, last T
	count       int
}

// linked is a pointer to something that carries a link.
type linked[T any] interface {
	comparable
	link() *link[T]
}

// link is a thing's place in one list.
type link[T any] struct {
	in             bool
	previous, next T
}

// push puts t last; no harm when it is in the list already.
func (l *list[T]) push(t T) {
	var none T
	k := t.link()
	if k.in {
		return
	}
	k.in, k.previous, k.next = true, l.last, none
	if l.last != none {
		l.last.link().next = t
	} else {
		l.first = t
	}
	l.last = t
	l.count++
}

// remove takes t out; no harm when it is not in.
func (l *list[T]) remove(t T) {
	var none T
	k := t.link()
	if !k.in {
		return
	}
	if k.previous != none {
		k.previous.link().next = k.next
	} else {
		l.first = k.next
	}
	if k.next != none {
		k.next.link().previous = k.previous
	} else {
		l.last = k.previous
	}
	*k = link[T]{}
	l.count--
}

// all walks the list; the thing at hand may be removed meanwhile.
func (l *list[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		var none T
		for t := l.first; t != none; {
			next := t.link().next
			if !yield(t) {
				return
			}
			t = next
		}
	}
}
