package houserules

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The measures of the drawing, in its own units.
const (
	drawnWidth  = 1200.0
	wallLeft    = 250.0 // left of it stands what the floors are for
	wallRight   = 1180.0
	roofTop     = 44.0
	roofBottom  = 150.0
	roomWidth   = 112.0
	roomHeight  = 34.0
	roomGap     = 14.0 // between two rooms
	wireGap     = 9.0  // between a wire and what stands beside it
	portGap     = 13.0 // between the wires at one room
	bandHeight  = 76.0 // of a floor with rooms
	emptyHeight = 46.0 // of one that is kept free
	slabHeight  = 44.0 // of the ground
	sweeps      = 24   // over the floors, to find an order without many crossings
)

// spot is a room on its floor, or the place where the wire to a room further down passes through a floor.
type spot struct {
	dir    string  // the package
	wire   bool    // the wire to dir passes here
	x      float64 // of the middle
	width  float64
	above  []*spot
	below  []*spot
	weight float64 // where it is drawn to, while an order is sought
}

// storey is a floor as it is drawn.
type storey struct {
	*floor
	spots       []*spot
	top, height float64
	under       *storey // the one below; nil for the lowest
}

// Draw draws the house as SVG: its floors with the packages that are there, and who imports whom. Imports that follow from
// others, and those of the words, are left out. The same repository always gives the same drawing. An error means that a
// file could not be read or parsed.
func Draw(repository fs.FS) ([]byte, error) {
	packages, _, err := read(repository)
	if err != nil {
		return nil, err
	}
	imports := reduced(importsOf(packages))
	storeys := build(imports)
	for range sweeps {
		arrange(storeys)
	}
	settle(storeys)
	return picture(storeys), nil
}

// importsOf gives what each package of the house, the words aside, imports of the others.
func importsOf(packages []*pkg) map[string][]string {
	housed := func(dir string) bool { on := floorOf(dir); return on != nil && on.number > 0 }
	imports := map[string][]string{}
	for _, p := range packages {
		if p.name == "" || !housed(p.dir) {
			continue
		}
		imports[p.dir] = nil
		for _, f := range p.files {
			for _, spec := range f.syntax.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				dir, ours := strings.CutPrefix(imported, module+"/")
				if err == nil && ours && !f.test && housed(dir) && !slices.Contains(imports[p.dir], dir) {
					imports[p.dir] = append(imports[p.dir], dir)
				}
			}
		}
		slices.Sort(imports[p.dir])
	}
	return imports
}

// reduced leaves out every import that follows from others.
func reduced(imports map[string][]string) map[string][]string {
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(imports[from], func(next string) bool { return next == to || reaches(next, to) })
	}
	less := map[string][]string{}
	for dir, all := range imports {
		less[dir] = slices.DeleteFunc(slices.Clone(all), func(to string) bool {
			return slices.ContainsFunc(all, func(via string) bool { return via != to && reaches(via, to) })
		})
	}
	return less
}

// build puts the rooms on their storeys, from the lowest up, and lays the wires. All wires to one room become one where
// they meet.
func build(imports map[string][]string) []*storey {
	var storeys []*storey
	at, on := map[string]*spot{}, map[string]int{}
	for i := range floors {
		if floors[i].number <= 0 {
			continue
		}
		s := &storey{floor: &floors[i]}
		for _, dir := range sortedKeys(imports) {
			if floorOf(dir) == s.floor {
				at[dir], on[dir] = &spot{dir: dir, width: roomWidth}, len(storeys)
				s.spots = append(s.spots, at[dir])
			}
		}
		if n := len(storeys); n > 0 {
			s.under = storeys[n-1]
		}
		storeys = append(storeys, s)
	}
	type pass struct {
		to    string
		floor int
	}
	wires := map[pass]*spot{}
	for _, dir := range sortedKeys(imports) {
		for _, to := range imports[dir] {
			from := at[dir]
			for n := on[dir] - 1; n > on[to]; n-- {
				w, laid := wires[pass{to, n}]
				if !laid {
					w = &spot{dir: to, wire: true, width: 2}
					wires[pass{to, n}] = w
					storeys[n].spots = append(storeys[n].spots, w)
				}
				join(from, w)
				from = w
			}
			join(from, at[to])
		}
	}
	return storeys
}

func join(upper, lower *spot) {
	if !slices.Contains(upper.below, lower) {
		upper.below, lower.above = append(upper.below, lower), append(lower.above, upper)
	}
}

func sortedKeys(m map[string][]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// arrange goes down and up once, and brings each spot to the middle of those it is joined to.
func arrange(storeys []*storey) {
	pass := func(s *storey, joined func(*spot) []*spot) {
		for _, p := range s.spots {
			p.weight = p.x
			if n := joined(p); len(n) > 0 {
				p.weight = mean(n)
			}
		}
		slices.SortStableFunc(s.spots, func(a, b *spot) int { return cmp.Compare(a.weight, b.weight) })
		s.spread()
	}
	for _, s := range slices.Backward(storeys) {
		pass(s, func(p *spot) []*spot { return p.above })
	}
	for _, s := range storeys {
		pass(s, func(p *spot) []*spot { return p.below })
	}
}

// settle moves the spots to their last places, their order kept.
func settle(storeys []*storey) {
	for range sweeps {
		for _, s := range storeys {
			for _, p := range s.spots {
				p.weight = p.x
				switch n := slices.Concat(p.above, p.below); {
				case p.wire: // straight up from where it ends
					p.weight = mean(p.below)
				case n != nil:
					p.weight = mean(n)
				}
			}
			s.spread()
		}
	}
}

func mean(spots []*spot) float64 {
	sum := 0.0
	for _, p := range spots {
		sum += p.x
	}
	return sum / float64(len(spots))
}

// spread gives every spot the place nearest to its weight that its neighbours and the walls leave.
func (s *storey) spread() {
	apart := func(a, b *spot) float64 {
		gap := roomGap
		if a.wire || b.wire {
			gap = wireGap
		}
		return (a.width+b.width)/2 + gap
	}
	n := len(s.spots)
	left, right := make([]float64, n), make([]float64, n)
	for i, p := range s.spots {
		left[i] = max(p.weight, wallLeft+roomGap+p.width/2)
		if i > 0 {
			left[i] = max(left[i], left[i-1]+apart(s.spots[i-1], p))
		}
	}
	for i := n - 1; i >= 0; i-- {
		p := s.spots[i]
		right[i] = min(p.weight, wallRight-roomGap-p.width/2)
		if i < n-1 {
			right[i] = min(right[i], right[i+1]-apart(p, s.spots[i+1]))
		}
	}
	if s.number == floors[len(floors)-2].number && n == 1 { // under the gable
		left[0], right[0] = (wallLeft+wallRight)/2, (wallLeft+wallRight)/2
	}
	for i, p := range s.spots { // both are apart enough, and so is the middle between them; the walls come last
		p.x = (left[i] + right[i]) / 2
	}
	for i := n - 1; i >= 0; i-- {
		p := s.spots[i]
		p.x = min(p.x, wallRight-roomGap-p.width/2)
		if i < n-1 {
			p.x = min(p.x, s.spots[i+1].x-apart(p, s.spots[i+1]))
		}
	}
	for i, p := range s.spots {
		p.x = max(p.x, wallLeft+roomGap+p.width/2)
		if i > 0 {
			p.x = max(p.x, s.spots[i-1].x+apart(s.spots[i-1], p))
		}
	}
}

// picture writes the house.
func picture(storeys []*storey) []byte {
	y := roofBottom
	for n, s := range slices.Backward(storeys) {
		if n == len(storeys)-1 { // under the roof
			s.top, s.height = roofBottom-roomHeight-22, roomHeight+22
			continue
		}
		s.top, s.height = y, emptyHeight
		if slices.ContainsFunc(s.spots, func(p *spot) bool { return !p.wire }) {
			s.height = bandHeight
		}
		y += s.height
	}
	bottom := y + slabHeight
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="Helvetica, Arial, sans-serif" font-size="13">
<!-- made by go test ./internal/houserules -update -->
<rect width="%.0f" height="%.0f" fill="#ffffff"/>
`, drawnWidth, bottom+58, drawnWidth, bottom+58)
	middle := (wallLeft + wallRight) / 2
	fmt.Fprintf(&b, `<path d="M%.0f %.0f L%.0f %.0f L%.0f %.0f Z" fill="#f6e9e1" stroke="#8a4b2a" stroke-width="2" stroke-linejoin="round"/>
<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" fill="#fffdfb" stroke="#8a4b2a" stroke-width="2"/>
`, wallLeft-22, roofBottom, middle, roofTop-30, wallRight+14, roofBottom, wallLeft, roofBottom, wallRight-wallLeft, y-roofBottom)
	for n, s := range storeys {
		s.band(&b, n == len(storeys)-1)
	}
	hue := hues(storeys)
	for _, s := range storeys {
		s.wires(&b, hue)
	}
	for _, s := range storeys {
		s.rooms(&b)
	}
	fmt.Fprintf(&b, `<rect x="%.0f" y="%.1f" width="%.0f" height="%.0f" fill="#8a4b2a"/>
<text x="%.0f" y="%.1f" fill="#ffffff" font-weight="bold" text-anchor="middle" font-size="15">kiln</text>
<text x="%.0f" y="%.1f" fill="#f3e3da" text-anchor="middle" font-size="11">the words; every package speaks them</text>
`, wallLeft-22, y, wallRight-wallLeft+36, slabHeight, middle, y+20, middle, y+36)
	label(&b, 0, floors[0].why, y+slabHeight/2)
	legend(&b, bottom+34)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// band draws a floor and says what it is for.
func (s *storey) band(b *bytes.Buffer, roof bool) {
	if !roof {
		if s.number >= lowestPure && s.number <= highestPure {
			fmt.Fprintf(b, `<rect x="%.0f" y="%.1f" width="%.0f" height="%.1f" fill="#f1f7f1"/>`+"\n", wallLeft+1, s.top, wallRight-wallLeft-2, s.height)
		}
		if s.top > roofBottom {
			fmt.Fprintf(b, `<path d="M%.0f %.1f H%.0f" stroke="#ecdcd1"/>`+"\n", wallLeft+1, s.top, wallRight-1)
		}
	}
	why := s.why
	if s.height == emptyHeight {
		why += " (kept free)"
	}
	label(b, s.number, why, s.top+s.height/2)
}

// label writes a floor's number and what it is for, left of the wall.
func label(b *bytes.Buffer, number int, why string, y float64) {
	word, rest, _ := strings.Cut(why, ": ")
	var lines []string
	if rest != "" {
		lines = fold(rest, 36, 3)
	} else if len(word) > 22 {
		word, lines = "", fold(word, 36, 3)
	}
	top := y + 4 - 6.5*float64(len(lines))
	if word == "" {
		top -= 7
	}
	fmt.Fprintf(b, `<text x="34" y="%.1f" fill="#8a4b2a" font-size="17" font-weight="bold" text-anchor="end">%d</text>`+"\n", y+6, number)
	if word != "" {
		fmt.Fprintf(b, `<text x="46" y="%.1f" fill="#333333" font-weight="bold">%s</text>`+"\n", top, word)
	}
	for i, line := range lines {
		fmt.Fprintf(b, `<text x="46" y="%.1f" fill="#777777" font-size="10">%s</text>`+"\n", top+13*float64(i+1), line)
	}
}

// fold breaks a text into at most so many lines of at most so many characters.
func fold(text string, width, most int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		case len(lines) == most:
			*last = strings.TrimRight(*last, ",;") + " …"
			return lines
		default:
			lines = append(lines, word)
		}
	}
	return lines
}

// hues gives each room the colour of all wires to it: no two next to each other have the same.
func hues(storeys []*storey) map[string]string {
	colours := []string{"#b0643c", "#4f7f8c", "#c0902f", "#8c5a86", "#7a8b3f", "#5b6fa8", "#a34f55", "#4e8a68"}
	chosen := map[string]string{}
	for _, s := range storeys {
		for _, p := range s.spots {
			if !p.wire {
				chosen[p.dir] = colours[len(chosen)%len(colours)]
			}
		}
	}
	return chosen
}

// wires draws what leads from a storey to the one below, and through the storey itself.
func (s *storey) wires(b *bytes.Buffer, hue map[string]string) {
	for _, p := range s.spots {
		if p.wire {
			fmt.Fprintf(b, `<path d="M%.1f %.1f V%.1f" stroke="%s" stroke-width="1.6"/>`+"\n", p.x, s.roomTop(), s.roomTop()+s.roomHeight(), hue[p.dir])
		}
		for _, q := range p.below {
			from, to := port(p, p.below, q), port(q, q.above, p)
			y1 := s.roomTop() + s.roomHeight()
			y2 := s.under.roomTop()
			mid := (y1 + y2) / 2
			fmt.Fprintf(b, `<path d="M%.1f %.1f C%.1f %.1f %.1f %.1f %.1f %.1f" fill="none" stroke="%s" stroke-width="1.6"/>`+"\n",
				from, y1, from, mid, to, mid, to, y2, hue[q.dir])
			if !q.wire {
				fmt.Fprintf(b, `<path d="M%.1f %.1f l-3.6 -6.5 h7.2 z" fill="%s"/>`+"\n", to, y2, hue[q.dir])
			}
		}
	}
}

// port gives where a wire leaves or enters: rooms have one port for each, side by side in the order of their other ends.
func port(p *spot, all []*spot, other *spot) float64 {
	if p.wire {
		return p.x
	}
	sorted := slices.SortedStableFunc(slices.Values(all), func(a, b *spot) int { return cmp.Compare(a.x, b.x) })
	gap := min(portGap, (roomWidth-16)/float64(len(sorted)))
	return p.x + gap*(float64(slices.Index(sorted, other))-float64(len(sorted)-1)/2)
}

func (s *storey) roomTop() float64 {
	return s.top + (s.height-s.roomHeight())/2
}

func (s *storey) roomHeight() float64 { return min(roomHeight, s.height-8) }

// rooms draws the packages of a storey.
func (s *storey) rooms(b *bytes.Buffer) {
	for _, p := range s.spots {
		if p.wire {
			continue
		}
		fill, edge, ink := "#ffffff", "#8a4b2a", "#333333"
		switch {
		case s.number >= lowestPure && s.number <= highestPure && !slices.Contains(notPure, p.dir):
			fill, edge, ink = "#dcead9", "#5c8a5c", "#2f5230"
		case strings.HasPrefix(p.dir, "cmd/"):
			fill, ink = "#8a4b2a", "#ffffff"
		}
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.0f" height="%.0f" rx="5" fill="%s" stroke="%s" stroke-width="1.4"/>`+"\n",
			p.x-roomWidth/2, s.roomTop(), roomWidth, s.roomHeight(), fill, edge)
		name := strings.TrimPrefix(p.dir, "internal/")
		size := 13.0
		if len(name) > 13 {
			size = 11.5
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" fill="%s" text-anchor="middle" font-weight="bold" font-size="%.1f">%s</text>`+"\n",
			p.x, s.roomTop()+s.roomHeight()/2+4.5, ink, size, path.Clean(name))
	}
}

func legend(b *bytes.Buffer, y float64) {
	fmt.Fprintf(b, `<rect x="%.0f" y="%.1f" width="26" height="14" rx="3" fill="#dcead9" stroke="#5c8a5c"/><text x="%.0f" y="%.1f" font-size="11" fill="#555555">decides: no clock, no I/O, no goroutine</text>
<rect x="%.0f" y="%.1f" width="26" height="14" rx="3" fill="#ffffff" stroke="#8a4b2a"/><text x="%.0f" y="%.1f" font-size="11" fill="#555555">acts</text>
<path d="M%.0f %.1f h24" stroke="#b0643c" stroke-width="1.6"/><path d="M%.0f %.1f l-6.5 -3.6 v7.2 z" fill="#b0643c"/><text x="%.0f" y="%.1f" font-size="11" fill="#555555">imports; what follows from other imports is left out, wires to one package join</text>
`, wallLeft, y-11, wallLeft+34, y, wallLeft+270, y-11, wallLeft+304, y, wallLeft+350, y-4, wallLeft+380, y-4, wallLeft+390, y)
}
