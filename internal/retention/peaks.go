package retention

// peaksKept is for how many of a function's minutes with a request it is known how many containers were needed at once.
const peaksKept = 8

// Peaks is how many containers of one version a function needed at once, in each of its last minutes with a request. The
// zero value is of one that was never needed.
type Peaks struct {
	needed [peaksKept]uint16 // the newest minute first
	at     uint32            // the minutes with a request there were when they were brought up to date
}

// Needed notes that n containers are needed at once, in the newest of the function's so many minutes with a request.
func (p *Peaks) Needed(minutes uint32, n int) {
	p.shift(minutes)
	if n > int(p.needed[0]) {
		p.needed[0] = uint16(min(n, 1<<16-1))
	}
}

// shift begins the function's newest minute; in those in which none was asked for none was needed.
func (p *Peaks) shift(minutes uint32) {
	if p.at == minutes {
		return
	}
	n := min(minutes-p.at, peaksKept)
	copy(p.needed[n:], p.needed[:peaksKept-n])
	clear(p.needed[:n])
	p.at = minutes
}

// Share is how likely the function's next request needs the container of this rank, the first being 1: in how many of its
// last minutes with a request so many were needed, drawn towards a half.
func (p *Peaks) Share(minutes uint32, rank int) float64 {
	p.shift(minutes)
	known, enough := int(min(minutes, peaksKept)), 0
	for _, n := range p.needed[:known] {
		if int(n) >= rank {
			enough++
		}
	}
	return (float64(enough) + 0.5) / float64(known+1)
}
