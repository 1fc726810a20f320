package ledger

import (
	"strconv"
	"time"
	"unicode/utf8"

	"kiln"
)

// The lines AWS Lambda writes around each execution, byte for byte, without the line's end.

// maxReportBytes bounds the error type in a REPORT line, in bytes.
const maxReportBytes = 256

// AppendStart appends the line that opens an execution. version is the version executed.
func AppendStart(b []byte, id kiln.RequestID, version string) []byte {
	b = append(append(b, "START RequestId: "...), id...)
	return append(append(b, " Version: "...), version...)
}

// AppendEnd appends the line that ends an execution.
func AppendEnd(b []byte, id kiln.RequestID) []byte {
	return append(append(b, "END RequestId: "...), id...)
}

// AppendReport appends the line that sums an execution up: times in ms with two decimals, memory in MB rounded up, each
// field ended by a tab.
func AppendReport(b []byte, r *kiln.Record) []byte {
	b = append(append(b, "REPORT RequestId: "...), r.RequestID...)
	b = appendMillis(append(b, "\tDuration: "...), r.DurationMs)
	b = append(b, " ms\tBilled Duration: "...)
	b = strconv.AppendInt(b, ceil(int64(r.BilledMs), int64(time.Millisecond)), 10)
	b = append(b, " ms\tMemory Size: "...)
	b = strconv.AppendInt(b, int64(r.Memory.AllocatedMiB), 10)
	b = append(b, " MB\tMax Memory Used: "...)
	b = strconv.AppendInt(b, ceil(r.Memory.UsedBytes, 1<<20), 10)
	b = append(b, " MB\t"...)
	if r.InitMs > 0 {
		b = appendMillis(append(b, "Init Duration: "...), r.InitMs)
		b = append(b, " ms\t"...)
	}
	switch r.Outcome {
	case kiln.OutcomeTimeout:
		b = append(b, "Status: timeout\t"...)
	case kiln.OutcomeCrash, kiln.OutcomeMemory, kiln.OutcomeInit:
		b = append(b, "Status: error\tError Type: "...)
		b = append(append(b, cut(r.ErrorType, maxReportBytes)...), '\t')
	}
	return b
}

func appendMillis(b []byte, m kiln.Millis) []byte {
	return strconv.AppendFloat(b, float64(m)/1e6, 'f', 2, 64)
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// cut shortens a text to at most n bytes, between characters where it has any: it may be no text at all.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := range utf8.UTFMax {
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n]
}
