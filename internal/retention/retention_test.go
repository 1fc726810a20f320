package retention

import (
	"testing"
	"time"
)

// Containers go before their instance, whatever is configured (R41).
func TestFixed(t *testing.T) {
	f := NewFixed(time.Hour, time.Minute)
	if f.Container(nil) != time.Hour || f.Spare() != time.Hour || f.Instance() < f.Container(nil) {
		t.Errorf("container %s, instance %s", f.Container(nil), f.Instance())
	}
}
