package server

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"kiln"
)

// Config is everything an operator can set. Each field is one key: the tags give its name (as in the YAML file, with
// dots), its default, its unit, the words it may be (oneof) and its meaning. The environment variable and the flag are
// made from the name. LoadConfig reads and validates it once; nothing changes it afterwards.
type Config struct {
	Listen   string `key:"listen" default:"127.0.0.1:4566" unit:"host:port" meaning:"where the server listens; port 0 takes a free one"`
	Data     string `key:"data" unit:"folder" meaning:"where everything is kept; empty means $XDG_DATA_HOME/kiln, or ~/.local/share/kiln"`
	Driver   string `key:"driver" default:"auto" unit:"word" oneof:"auto container gvisor microvm process" meaning:"the boundary code runs behind; auto takes container; a boundary that cannot be had here is refused at the start, never replaced by a weaker one"`
	Runtimes string `key:"runtimes" default:"nearest" unit:"word" oneof:"nearest strict" meaning:"what to do when a function's exact interpreter is absent: run on the nearest of that language, or refuse"`
	Region   string `key:"region" default:"us-east-1" unit:"name" meaning:"the region ARNs carry; requests signed for any region are let in"`

	InstancesMax          int `key:"instances.max" default:"32" min:"1" max:"100000" unit:"instances" meaning:"the most instances of a fleet on this node, warm and active together, unless fleets.NAME.instances.max says otherwise"`
	ProvidersInstancesMax int `key:"providers.instances.max" default:"8" min:"0" max:"100000" unit:"instances" meaning:"the most instances of all accounts' capacity providers together, beside instances.max; each provider has one at least, so as many providers there may be, and 998 at most"`

	InstancesShapes    []kiln.Shape `key:"instances.shapes" default:"[{\"memory\":2048,\"cpus\":2},{\"memory\":10240,\"cpus\":6}]" unit:"list of {memory: MiB, cpus: CPUs}" meaning:"the shapes instances come in; a request takes the smallest that fits its amount"`
	InstancesAllowance int          `key:"instances.allowance" default:"512" min:"64" max:"16384" unit:"MiB" meaning:"memory of an instance beyond its shape, for prepared containers and the boundary itself"`
	WarmingInstances   int          `key:"warming.instances" default:"1" min:"0" max:"1000" unit:"instances" meaning:"the fewest warm instances kept for each language runtime found, in the first shape; demand may call for more"`

	WarmingMaximum   int           `key:"warming.maximum" default:"0" min:"0" max:"1000" unit:"instances" meaning:"the most warm instances of a configuration; 0 for eight times warming.instances"`
	WarmingShortfall float64       `key:"warming.shortfall" default:"0.01" min:"0.0001" max:"0.5" unit:"probability" meaning:"the share of first requests that may find no warm instance: the stock is the demand within one refill that is exceeded so seldom"`
	WarmingWindow    time.Duration `key:"warming.window" default:"1h" min:"1s" max:"24h" unit:"duration" meaning:"how far back the demand for instances is remembered, beside what is usual at this time of the day and the week"`
	WarmingRelease   time.Duration `key:"warming.release" default:"2m" min:"0s" max:"24h" unit:"duration" meaning:"how long warm instances above the target are kept"`
	SurgeFirst       int           `key:"surge.first" default:"1" min:"1" max:"1000" unit:"instances" meaning:"warm instances booted for each one taken"`
	SurgeSecond      int           `key:"surge.second" default:"2" min:"1" max:"1000" unit:"instances" meaning:"the same while the rate of requests meets the threshold condition"`
	SurgeThreshold   float64       `key:"surge.threshold" default:"1.5" min:"0.01" max:"1000" unit:"factor" meaning:"the threshold condition: the rate of requests over the last minute exceeds what is expected for this time by this factor, one request a second being expected always"`

	FleetWindow         time.Duration `key:"fleet.window" default:"1h" min:"1s" max:"168h" unit:"duration" meaning:"how far back a function's requests count for which fleet serves it"`
	FleetEnter          int           `key:"fleet.enter" default:"60" min:"1" max:"1000000" unit:"requests" meaning:"how many requests within fleet.window bring a function to the fleet high-volume"`
	FleetLeave          int           `key:"fleet.leave" default:"30" min:"1" max:"1000000" unit:"requests" meaning:"with fewer requests than this within fleet.window a function goes back to low-volume; at most fleet.enter"`
	LowVolumeInstances  int           `key:"fleets.low-volume.instances.max" default:"0" min:"0" max:"100000" unit:"instances" meaning:"the most instances of the fleet low-volume; 0 takes instances.max"`
	HighVolumeInstances int           `key:"fleets.high-volume.instances.max" default:"0" min:"0" max:"100000" unit:"instances" meaning:"the most instances of the fleet high-volume; 0 takes instances.max"`

	ConsolidationUtilisation float64       `key:"consolidation.utilisation" default:"0.5" min:"0" max:"1" unit:"share" meaning:"the share of their memory that executes below which an account's executing instances of one runtime give one of them up while it still executes"`
	ConsolidationAfter       time.Duration `key:"consolidation.after" default:"5m" min:"0s" max:"24h" unit:"duration" meaning:"how long it must be below; 0s for no consolidation"`

	PauseAfter         time.Duration `key:"pause.after" default:"5s" min:"0s" max:"24h" unit:"duration" meaning:"how long a container is idle before it is paused, so that nothing of it runs between executions; 0 for never"`
	RetentionPolicy    string        `key:"retention.policy" default:"learned" unit:"word" oneof:"learned fixed" meaning:"how long an idle container is kept: as what its function's requests were like makes worth it, loading it again before a request is due; or all equally long"`
	RetentionWorth     float64       `key:"retention.worth" default:"80.5" min:"0.001" max:"1000000" unit:"GB-seconds" meaning:"what avoiding a cold start is worth to the policy learned, in idle memory: more keeps longer"`
	RetentionBehind    float64       `key:"retention.behind" default:"2" min:"-1" max:"1000000" unit:"cold starts" meaning:"by how many a function may be colder by the policy learned than if it was kept for 10m after each request, of its newest hundred or so and unless it is so by less than twice; below 0 for no such bound"`
	RetentionContainer time.Duration `key:"retention.container" default:"0s" min:"0s" unit:"duration" meaning:"how long an idle container is kept by the policy fixed, and at most by learned; 0s for 10m by fixed and no such bound by learned"`
	RetentionInstance  time.Duration `key:"retention.instance" default:"20m" min:"1s" unit:"duration" meaning:"how long an assigned instance without a container in use is kept; longer than retention.container"`

	HealthInterval time.Duration `key:"health.interval" default:"2s" min:"100ms" max:"10m" unit:"duration" meaning:"time between two looks at every instance and container; one that runs nothing leaves its pool and is replaced"`

	WaitMax            time.Duration `key:"wait.max" default:"10s" min:"0s" max:"15m" unit:"duration" meaning:"how long a request may wait for capacity before it is throttled (429)"`
	WaitRequests       int           `key:"wait.requests" default:"10000" min:"1" max:"1000000" unit:"requests" meaning:"the most requests that wait for capacity at once; more are throttled at once"`
	ConcurrencyAccount int           `key:"concurrency.account" default:"1000" min:"1" max:"1000000" unit:"executions" meaning:"the most executions of one account at once; more are throttled (429)"`

	StartContainer   time.Duration `key:"start.bound.container" default:"100ms" min:"0s" max:"15m" unit:"duration" meaning:"bound on receipt to code start in a container that is there; a later start is counted and leaves an event start.breach; 0s for no bound"`
	StartCodeCache   time.Duration `key:"start.bound.code-cache" default:"1s" min:"0s" max:"15m" unit:"duration" meaning:"the same where the instance holds the package"`
	StartAccount     time.Duration `key:"start.bound.account-instance" default:"2s" min:"0s" max:"15m" unit:"duration" meaning:"the same where the account has an instance and the package must be fetched"`
	StartWarmingPool time.Duration `key:"start.bound.warming-pool" default:"2s" min:"0s" max:"15m" unit:"duration" meaning:"the same where a warm instance must be assigned; an instance booted for the request has no bound"`

	CodeCache   int64 `key:"code.cache" default:"4096" min:"256" max:"16777216" unit:"MiB" meaning:"disk for unpacked packages on this node; packages in use are kept even beyond it"`
	DiskReserve int64 `key:"disk.reserve" default:"512" min:"0" max:"16777216" unit:"MiB" meaning:"free disk under data that is left alone: with less, new code is refused and what exists keeps running"`

	LedgerRecords int64 `key:"ledger.records" default:"1024" min:"16" max:"16777216" unit:"MiB" meaning:"disk for execution records; the oldest go first"`
	LedgerEvents  int64 `key:"ledger.events" default:"256" min:"16" max:"16777216" unit:"MiB" meaning:"disk for events of instances, containers and code; the oldest go first"`
	LogsFunction  int64 `key:"logs.function" default:"16" min:"1" max:"1048576" unit:"MiB" meaning:"log kept for each function; the oldest lines go first"`
	LogsTotal     int64 `key:"logs.total" default:"1024" min:"1" max:"16777216" unit:"MiB" meaning:"log kept for all functions together; the oldest lines go first"`

	HTTPConnections int           `key:"http.connections" default:"10000" min:"16" max:"1000000" unit:"connections" meaning:"the most connections held open at once; more wait to be accepted"`
	HTTPRead        time.Duration `key:"http.read" default:"1m" min:"1s" max:"15m" unit:"duration" meaning:"the most reading one request may take"`
	HTTPIdle        time.Duration `key:"http.idle" default:"2m" min:"1s" max:"1h" unit:"duration" meaning:"how long a connection without a request is kept"`

	Record string `key:"record" unit:"file" meaning:"a new file in which is written what every instance manager is told and decides, for kiln simulate; empty for none"`

	DrainMax  time.Duration `key:"drain.max" default:"30s" min:"0s" max:"15m" unit:"duration" meaning:"how long executions may go on after TERM before they are ended"`
	LogLevel  string        `key:"log.level" default:"info" unit:"word" oneof:"debug info warn error" meaning:"the least important lines the server logs, on standard error"`
	LogFormat string        `key:"log.format" default:"text" unit:"word" oneof:"text json" meaning:"the form of the server's log"`
}

// MaxConfigBytes bounds the YAML file.
const MaxConfigBytes = 1 << 20

// Key is one thing that can be set, as `kiln config` shows it.
type Key struct {
	Name     string   `json:"name"`     // in the YAML file, and as a flag after "--"
	Variable string   `json:"variable"` // in the environment
	Default  string   `json:"default"`
	Unit     string   `json:"unit"`
	OneOf    []string `json:"oneOf,omitempty"`
	Meaning  string   `json:"meaning"`
	// Value is the key's value in the configuration the keys were asked of.
	Value string `json:"value"`

	min, max string
}

// Sources are the places a configuration comes from, the weaker first. Any may be empty.
type Sources struct {
	// File is the path of a YAML file.
	File string
	// Environ holds NAME=value, as os.Environ gives it.
	Environ []string
	// Flags holds the flags that were given, by key.
	Flags map[string]string
}

// LoadConfig puts defaults, file, environment and flags together, each stronger than the one before, and validates
// the whole. Errors are KindInvalid; the message names every mistake and says what to do.
func LoadConfig(s Sources) (Config, error) {
	values, from := map[string]string{}, origins{}
	if s.File != "" {
		fromFile, err := readFile(s.File)
		if err != nil {
			return Config{}, err
		}
		for name, text := range fromFile {
			values[name], from[name] = text, s.File
		}
	}
	environ := environment(s.Environ)
	for _, k := range new(Config).Keys() {
		if text, ok := environ[k.Variable]; ok {
			values[k.Name], from[k.Name] = text, k.Variable
		}
	}
	for name, text := range s.Flags {
		values[name], from[name] = text, "--"+name
	}
	return makeConfig(values, environ, from)
}

// origins tells, by key, where its value comes from: the file's path, the variable or the flag. Defaults have none.
type origins map[string]string

// tell adds to a mistake where the values of the keys come from.
func (o origins) tell(err error, keys ...string) error {
	var places []string
	for _, k := range keys {
		if from := o[k]; from != "" && !slices.Contains(places, from) {
			places = append(places, from)
		}
	}
	if len(places) == 0 {
		return err
	}
	return fmt.Errorf("%w (from %s)", err, strings.Join(places, " and "))
}

// makeConfig sets the defaults, then the values by key, then validates.
func makeConfig(values, environ map[string]string, from origins) (Config, error) {
	var c Config
	var mistakes []error
	fields := reflect.ValueOf(&c).Elem()
	for i, k := range c.Keys() {
		text, given := values[k.Name]
		if !given {
			text = k.Default
		}
		delete(values, k.Name)
		if err := k.set(fields.Field(i), text); err != nil {
			mistakes = append(mistakes, from.tell(err, k.Name))
		}
	}
	for name := range values {
		mistakes = append(mistakes, from.tell(unknownKey(name), name))
	}
	if c.Data == "" {
		dir, err := DefaultData(environ)
		if err != nil {
			mistakes = append(mistakes, err)
		}
		c.Data = dir
	}
	return c, invalid(append(mistakes, c.contradictions(from)...))
}

// DefaultData gives the per-user data folder: $XDG_DATA_HOME/kiln, or ~/.local/share/kiln.
func DefaultData(environ map[string]string) (string, error) {
	if dir := environ["XDG_DATA_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "kiln"), nil
	}
	if dir := environ["HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, ".local", "share", "kiln"), nil
	}
	return "", errors.New("data: there is no home folder to put it in; give --data DIR")
}

// contradictions finds what no single key can tell. Each error names the key to change.
func (c *Config) contradictions(from origins) (found []error) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		found = append(found, from.tell(fmt.Errorf("listen is %q; give host:port, e.g. 127.0.0.1:4566", c.Listen), "listen"))
	}
	if c.Region == "" || strings.ContainsAny(c.Region, ":/ ") {
		found = append(found, from.tell(fmt.Errorf("region is %q; give a name such as us-east-1", c.Region), "region"))
	}
	if container := cmp.Or(c.RetentionContainer, fixedRetention); c.RetentionInstance < container {
		found = append(found, from.tell(fmt.Errorf("retention.instance (%s) is shorter than retention.container (%s); an instance outlives its containers: make it at least as long",
			c.RetentionInstance, container), "retention.instance", "retention.container"))
	}
	if c.FleetLeave > c.FleetEnter {
		found = append(found, from.tell(fmt.Errorf("fleet.leave (%d requests) is more than fleet.enter (%d); a function would go back as soon as it came: make it at most as many",
			c.FleetLeave, c.FleetEnter), "fleet.leave", "fleet.enter"))
	}
	if c.LogsTotal < c.LogsFunction {
		found = append(found, from.tell(fmt.Errorf("logs.total (%d MiB) is less than logs.function (%d MiB); make it at least as much",
			c.LogsTotal, c.LogsFunction), "logs.total", "logs.function"))
	}
	return found
}

// invalid makes one error of all mistakes, in an order that does not change; nil when there are none.
func invalid(mistakes []error) error {
	if len(mistakes) == 0 {
		return nil
	}
	lines := make([]string, 0, len(mistakes))
	for _, m := range mistakes {
		lines = append(lines, m.Error())
	}
	slices.Sort(lines)
	return kiln.Errorf(kiln.KindInvalid, "server: read configuration", "%s", strings.Join(lines, "\n"))
}

// Keys lists every key in the order of the struct, with its value in c.
func (c *Config) Keys() []Key {
	fields := reflect.ValueOf(c).Elem()
	keys := make([]Key, 0, fields.NumField())
	for i := range fields.NumField() {
		tag := fields.Type().Field(i).Tag
		k := Key{Name: tag.Get("key"), Default: tag.Get("default"), Unit: tag.Get("unit"), Meaning: tag.Get("meaning"),
			OneOf: strings.Fields(tag.Get("oneof")), min: tag.Get("min"), max: tag.Get("max")}
		k.Variable = "KILN_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(k.Name))
		k.Value = show(fields.Field(i))
		keys = append(keys, k)
	}
	return keys
}

// show gives a field's value in the form set reads.
func show(field reflect.Value) string {
	switch v := field.Interface().(type) {
	case time.Duration:
		return shortDuration(v)
	case []kiln.Shape:
		list := make([]shapeText, 0, len(v))
		for _, s := range v {
			list = append(list, shapeText{Memory: s.MemoryMiB, CPUs: s.CPUs})
		}
		b, err := json.Marshal(list)
		if err != nil {
			panic(err) // plain numbers always marshal
		}
		return string(b)
	default:
		return fmt.Sprint(v)
	}
}

// shortDuration gives 10m where Go says 10m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// set reads text into the key's field and holds it to the key's bounds. Errors name the key and say what to give.
func (k *Key) set(field reflect.Value, text string) error {
	switch field.Interface().(type) {
	case string:
		if len(k.OneOf) > 0 && !slices.Contains(k.OneOf, text) {
			return fmt.Errorf("%s is %q; give one of %s", k.Name, text, strings.Join(k.OneOf, ", "))
		}
		field.SetString(text)
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%s is %q; give a duration such as 500ms, 10s or 5m", k.Name, text)
		}
		if low, high := k.durations(); d < low || d > high {
			return k.outside(text)
		}
		field.SetInt(int64(d))
	case int, int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%s is %q; give a whole number of %s", k.Name, text, k.Unit)
		}
		if low, high := k.numbers(); n < low || n > high {
			return k.outside(text)
		}
		field.SetInt(n)
	case float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) {
			return fmt.Errorf("%s is %q; give a number (%s)", k.Name, text, k.Unit)
		}
		if low, high := k.fractions(); f < low || f > high {
			return k.outside(text)
		}
		field.SetFloat(f)
	case []kiln.Shape:
		shapes, err := parseShapes(text)
		if err != nil {
			return fmt.Errorf("%s: %w", k.Name, err)
		}
		field.Set(reflect.ValueOf(shapes))
	default:
		panic("config: key " + k.Name + " has a type that set does not know: " + field.Type().String())
	}
	return nil
}

func (k *Key) outside(text string) error {
	switch {
	case k.max == "":
		return fmt.Errorf("%s is %s; give at least %s", k.Name, text, k.min)
	default:
		return fmt.Errorf("%s is %s; give %s to %s", k.Name, text, k.min, k.max)
	}
}

// durations gives the key's bounds; the tags are ours, so one that cannot be read is a broken invariant.
func (k *Key) durations() (low, high time.Duration) {
	high = math.MaxInt64
	for text, into := range map[string]*time.Duration{k.min: &low, k.max: &high} {
		if text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			panic("config: key " + k.Name + ": " + err.Error())
		}
		*into = d
	}
	return low, high
}

// fractions gives the bounds of a key that is no whole number.
func (k *Key) fractions() (low, high float64) {
	high = math.MaxFloat64
	for text, into := range map[string]*float64{k.min: &low, k.max: &high} {
		if text == "" {
			continue
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			panic("config: key " + k.Name + ": " + err.Error())
		}
		*into = f
	}
	return low, high
}

func (k *Key) numbers() (low, high int64) {
	high = math.MaxInt64
	for text, into := range map[string]*int64{k.min: &low, k.max: &high} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic("config: key " + k.Name + ": " + err.Error())
		}
		*into = n
	}
	return low, high
}

// shapeText is a shape as it is written: memory in MiB under either name.
type shapeText struct {
	Memory    int     `json:"memory,omitempty"`
	MemoryMiB int     `json:"memoryMiB,omitempty"`
	CPUs      float64 `json:"cpus"`
}

// MaxShapes bounds instances.shapes.
const MaxShapes = 16

// parseShapes reads a JSON list of shapes and gives it with the smallest memory first.
func parseShapes(text string) ([]kiln.Shape, error) {
	const form = `[{"memory": 2048, "cpus": 1}] (memory in MiB)`
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	var list []shapeText
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("cannot read %s; give a list like %s", text, form)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more after the list in %s; give a list like %s", text, form)
	}
	if len(list) == 0 || len(list) > MaxShapes {
		return nil, fmt.Errorf("there are %d shapes; give 1 to %d, like %s", len(list), MaxShapes, form)
	}
	shapes := make([]kiln.Shape, 0, len(list))
	for _, s := range list {
		memory := max(s.Memory, s.MemoryMiB)
		if memory < kiln.MinMemoryMiB || memory > 1<<24 {
			return nil, fmt.Errorf("a shape has %d MiB of memory; give at least %d", memory, kiln.MinMemoryMiB)
		}
		if !(s.CPUs >= 0.01 && s.CPUs <= 4096) {
			return nil, fmt.Errorf("a shape has %g CPUs; give 0.01 to 4096", s.CPUs)
		}
		shapes = append(shapes, kiln.Shape{MemoryMiB: memory, CPUs: s.CPUs})
	}
	slices.SortStableFunc(shapes, func(a, b kiln.Shape) int { return a.MemoryMiB - b.MemoryMiB })
	for i := 1; i < len(shapes); i++ {
		if shapes[i].MemoryMiB == shapes[i-1].MemoryMiB {
			return nil, fmt.Errorf("two shapes have %d MiB; the amount asked for picks the shape: leave one out", shapes[i].MemoryMiB)
		}
	}
	return shapes, nil
}

// environment turns NAME=value into a map.
func environment(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok {
			m[name] = value
		}
	}
	return m
}

// readFile reads a YAML file into texts by key.
func readFile(path string) (map[string]string, error) {
	const op = "server: read configuration"
	f, err := os.Open(path)
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInvalid, op, "cannot open the configuration file "+path+"; give --config a file that can be read", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxConfigBytes+1))
	if err != nil {
		return nil, kiln.Wrap(kiln.KindInvalid, op, "cannot read the configuration file "+path, err)
	}
	if len(b) > MaxConfigBytes {
		return nil, kiln.Errorf(kiln.KindInvalid, op, "%s has more than %d bytes; that is no configuration of Kiln", path, MaxConfigBytes)
	}
	values, err := parseFile(b)
	if err != nil {
		return nil, kiln.Errorf(kiln.KindInvalid, op, "%s: %s", path, err)
	}
	return values, nil
}

// parseFile reads YAML into texts by key. Keys may be nested (instances: {max: 4}) or dotted (instances.max: 4);
// lists become JSON, as in the environment. Unknown and repeated keys are refused.
func parseFile(b []byte) (map[string]string, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); err != io.EOF {
		return nil, errors.New("there is more than one YAML document; leave one")
	}
	values := map[string]string{}
	known := map[string]bool{}
	for _, k := range new(Config).Keys() {
		known[k.Name] = true
	}
	if len(doc.Content) == 1 {
		if err := flatten(doc.Content[0], "", known, values); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// flatten walks a mapping and puts the texts of its keys into values.
func flatten(n *yaml.Node, prefix string, known map[string]bool, values map[string]string) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil // an empty file, or a section left empty
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s; write keys and values, e.g. instances.max: 32", n.Line, orElse(prefix, "this is no mapping"))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := prefix+n.Content[i].Value, n.Content[i+1]
		if !known[name] {
			if value.Kind == yaml.MappingNode && isSection(name, known) {
				if err := flatten(value, name+".", known, values); err != nil {
					return err
				}
				continue
			}
			return fmt.Errorf("line %d: %w", n.Content[i].Line, unknownKey(name))
		}
		if _, twice := values[name]; twice {
			return fmt.Errorf("line %d: %s is set twice; leave one", n.Content[i].Line, name)
		}
		text, err := textOf(value)
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", value.Line, name, err)
		}
		values[name] = text
	}
	return nil
}

func orElse(prefix, otherwise string) string {
	if prefix == "" {
		return otherwise
	}
	return strings.TrimSuffix(prefix, ".") + " is no single key"
}

func isSection(name string, known map[string]bool) bool {
	for k := range known {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

// textOf gives a scalar as it is written and anything else as JSON.
func textOf(n *yaml.Node) (string, error) {
	if n.Kind == yaml.ScalarNode {
		return n.Value, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return "", err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot be written as JSON: %w", err)
	}
	return string(b), nil
}

// typoLetters is how many letters apart a variable and a key's may be for the one to be taken for the other, misspelt.
const typoLetters = 3

// Misspelt gives a sentence for each variable of an environment that sets nothing and looks like a key's.
func Misspelt(environ []string) (told []string) {
	known := []string{"KILN_CONFIG", "KILN_ACCOUNT_ID", "KILN_BIN", "KILN_MOUNT_NAMESPACE"}
	keys := new(Config).Keys()
	for _, k := range keys {
		known = append(known, k.Variable)
	}
	ours := regexp.MustCompile(`^KILN_(REQUIRE|TEST|DEMO)_`)
	for name := range environment(environ) {
		if !strings.HasPrefix(name, "KILN_") || slices.Contains(known, name) || ours.MatchString(name) {
			continue
		}
		nearest := slices.MinFunc(keys, func(a, b Key) int { return distance(name, a.Variable) - distance(name, b.Variable) })
		if distance(name, nearest.Variable) <= typoLetters {
			told = append(told, fmt.Sprintf("the variable %s sets nothing; is %s meant? (`kiln config` lists all)", name, nearest.Variable))
		}
	}
	slices.Sort(told)
	return told
}

// unknownKey refuses a key and names the nearest that exists.
func unknownKey(name string) error {
	nearest, best := "", math.MaxInt
	for _, k := range new(Config).Keys() {
		if d := distance(name, k.Name); d < best {
			nearest, best = k.Name, d
		}
	}
	return fmt.Errorf("there is no key %q; the nearest is %q (`kiln config` lists all)", name, nearest)
}

// distance is Levenshtein's: the fewest letters put in, taken out or changed.
func distance(a, b string) int {
	if len(a) > 100 {
		a = a[:100]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
