package operations

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"kiln"
	"kiln/internal/pool"
)

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// Each operation the document describes is served. (The reverse, that nothing else is, is the row below.)
func TestDocumentIsServed(t *testing.T) {
	o := New(Config{})
	for path, item := range document(t).Paths.Map() {
		for method := range item.Operations() {
			concrete := strings.NewReplacer("{id}", "x", "{function}", "x", "{account}", "x", "{name}", "x").Replace(path)
			if _, pattern := o.mux.Handler(httptest.NewRequest(method, concrete, nil)); strings.ReplaceAll(pattern, "...", "") != method+" "+path {
				t.Errorf("%s %s is served by %q", method, path, pattern)
			}
		}
	}
}

// Each operation that is served is described.
func TestServedIsDocumented(t *testing.T) {
	doc := document(t)
	for _, pattern := range New(Config{}).patterns {
		method, path, _ := strings.Cut(pattern, " ")
		item := doc.Paths.Value(path)
		if item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s is not in docs/openapi.yaml", pattern)
		}
	}
}

// What the server writes has just the fields the document says, of just those types.
func TestShapesAreDocumented(t *testing.T) {
	now := kiln.Time{Time: time.Now()}
	doc := document(t)
	for name, value := range map[string]any{
		"Execution": kiln.Record{Outcome: kiln.OutcomeError, Path: kiln.PathContainer, Trigger: kiln.TriggerInvoke, ErrorType: "x", ErrorMessage: "x", InitMs: 1,
			Times: kiln.Times{Received: now}, Choice: kiln.Choice{Waited: 1}},
		"Event":       kiln.Event{ID: 1, Time: now, Kind: kiln.EventCodeFetch, RequestID: "x", Account: "x", Function: "x", Version: "x", Package: "x", Node: "x", Instance: "x", Container: "x"},
		"Instance":    pool.Instance{Pool: kiln.PoolActive, State: kiln.InstanceAssigned, Runtimes: []string{"python3.11"}, CodeCache: []kiln.Digest{"x"}, BootedAt: now},
		"Container":   pool.Container{State: kiln.ContainerIdle},
		"Pool":        pool.Counts{Pool: kiln.PoolWarming, Demand: &pool.Demand{}},
		"Rate":        pool.Rate{Scope: "total", Requests: &pool.Rates{}, Expected: new(float64)},
		"Explanation": pool.Explanation{Until: now, Load: now},
		"Node":        nodeView{Architecture: "arm64", Notes: []string{"x"}, StartedAt: now},
		"Account":     account{"x", now},
		"Key":         key{AccessKeyID: "x", SecretAccessKey: "x", Created: now},
		"Problem":     problem{Kind: "invalid", Reason: "x", Message: "x", RequestID: "x"},
		"Fleet":       pool.Fleet{Manager: pool.ManagerStopped},
		"Usage":       usageView{Last: now},
	} {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var plain any
		if err := json.Unmarshal(b, &plain); err != nil {
			t.Fatal(err)
		}
		if err := doc.Components.Schemas[name].Value.VisitJSON(plain); err != nil {
			t.Errorf("%s: %s: %v", name, b, err)
		}
	}
}
