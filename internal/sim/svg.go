package sim

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The picture's size, in its own units.
const (
	svgWidth, svgHeight         = 760, 480
	svgLeft, svgRight           = 70, 170
	svgTop, svgBottom           = 40, 50
	svgTicks                    = 6
	svgPlotWidth, svgPlotHeight = svgWidth - svgLeft - svgRight, svgHeight - svgTop - svgBottom
)

// series is the points of one policy, from the least idle memory to the most.
type series struct {
	name   string
	points []Result
}

// SVG draws the frontier: cold starts, by powers of ten, against idle memory over that of a fixed keep-alive of 10 minutes. A
// policy's operating points are joined; lower and further left is better.
func SVG(title string, results []Result) []byte {
	all := bySeries(results)
	left, right, low, high := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, r := range results {
		if r.Cold > 0 {
			left, right = min(left, r.Waste), max(right, r.Waste)
			low, high = min(low, math.Log10(float64(r.Cold))), max(high, math.Log10(float64(r.Cold)))
		}
	}
	right, high = max(right, left+0.1), max(high, low+0.1)
	x := func(waste float64) float64 { return svgLeft + svgPlotWidth*(waste-left)/(right-left) }
	y := func(cold int) float64 {
		return svgTop + svgPlotHeight*(high-math.Log10(float64(max(cold, 1))))/(high-low)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"22\" font-size=\"14\">%s</text>\n", svgLeft, escaped(title))
	axes(&b, left, right, low, high)
	for i, s := range all {
		colour := fmt.Sprintf("hsl(%d,70%%,%d%%)", i*137%360, 38+i%2*10)
		wide := 1.5
		if s.name == "kiln" {
			colour, wide = "#000", 3
		}
		var line []string
		for _, r := range s.points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", x(r.Waste), y(r.Cold)))
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\"><title>%s %g: %d cold starts at %.3f</title></circle>\n",
				x(r.Waste), y(r.Cold), wide+1, colour, escaped(r.Policy), r.Value, r.Cold, r.Waste)
		}
		if len(line) > 1 {
			fmt.Fprintf(&b, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\"/>\n", strings.Join(line, " "), colour, wide)
		}
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n", svgWidth-svgRight+16, svgTop+12+18*i, colour, escaped(s.name))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// axes draws both scales.
func axes(b *strings.Builder, left, right, low, high float64) {
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", svgLeft, svgTop, svgPlotWidth, svgPlotHeight)
	for i := range svgTicks + 1 {
		part := float64(i) / svgTicks
		at := svgLeft + part*svgPlotWidth
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#444\">%.2f</text>\n", at, svgHeight-svgBottom+18, left+part*(right-left))
		up := svgTop + (1-part)*svgPlotHeight
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\" fill=\"#444\">%.0f</text>\n", svgLeft-6, up+4, math.Pow(10, low+part*(high-low)))
		fmt.Fprintf(b, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#eee\"/>\n", svgLeft, up, svgWidth-svgRight, up)
	}
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">idle memory over that of a keep-alive of 10 minutes</text>\n",
		svgLeft+svgPlotWidth/2, svgHeight-10)
	fmt.Fprintf(b, "<text x=\"16\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 16 %d)\">cold starts</text>\n",
		svgTop+svgPlotHeight/2, svgTop+svgPlotHeight/2)
}

// bySeries puts the results together by policy: fixed windows are one, whatever their time, and so are the histograms.
func bySeries(results []Result) []series {
	var all []series
	for _, r := range results {
		name := r.Policy
		for _, kind := range []string{"fixed", "hybrid"} {
			if strings.HasPrefix(name, kind+"-") {
				if name = kind; strings.HasSuffix(r.Policy, "-ar") {
					name += "-ar"
				}
			}
		}
		i := slices.IndexFunc(all, func(s series) bool { return s.name == name })
		if i < 0 {
			i = len(all)
			all = append(all, series{name: name})
		}
		if !slices.ContainsFunc(all[i].points, func(o Result) bool { return o.Policy == r.Policy && o.Value == r.Value }) {
			all[i].points = append(all[i].points, r)
		}
	}
	for _, s := range all {
		slices.SortStableFunc(s.points, func(a, b Result) int {
			switch {
			case a.Waste < b.Waste:
				return -1
			case a.Waste > b.Waste:
				return 1
			}
			return b.Cold - a.Cold
		})
	}
	return all
}

func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\"", "&quot;").Replace(s)
}
