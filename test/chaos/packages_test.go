package chaos

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"kiln/test/kilntest"
)

// source is a sound handler, so that what is refused is refused for the rest of its package.
const source = "def handler(event, context):\n    return open('/var/task/f.py').read()\n"

// entry is one entry of a package.
type entry struct {
	name, text string
	mode       fs.FileMode
}

func pack(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range append([]entry{{"f.py", source, 0o644}}, entries...) {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = f.Write([]byte(e.text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// million is a package whose table of contents names a million files that share one body.
func million() []byte {
	const entries = 1_000_000
	le := binary.LittleEndian
	var b []byte
	local := le.AppendUint32(nil, 0x04034b50)
	local = append(local, make([]byte, 22)...)
	local = le.AppendUint16(local, 1)
	local = le.AppendUint16(local, 0)
	b = append(append(b, local...), 'x')
	at := len(b)
	for n := range entries {
		head := make([]byte, 46)
		le.PutUint32(head, 0x02014b50)
		name := fmt.Sprintf("%05x", n)
		le.PutUint16(head[28:], uint16(len(name)))
		b = append(append(b, head...), name...)
	}
	size := len(b) - at
	end64 := len(b)
	b = le.AppendUint32(b, 0x06064b50)
	b = le.AppendUint64(b, 44)
	b = append(b, make([]byte, 12)...)
	for _, n := range []int{entries, entries, size, at} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = le.AppendUint32(b, 0x07064b50)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(end64))
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, 0x06054b50)
	b = append(b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	return le.AppendUint16(b, 0)
}

// overlapping is a bomb: a thousand entries that share one well-packed body of 16 MiB.
func overlapping(t *testing.T) []byte {
	t.Helper()
	const entries = 1000
	body := make([]byte, 16<<20)
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	f, err := w.CreateHeader(&zip.FileHeader{Name: "x", Method: zip.Deflate})
	if err == nil {
		_, err = f.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	b := packed.Bytes()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	at := bytes.LastIndex(b, []byte("PK\x01\x02"))
	b = b[:at:at]
	for n := range entries {
		head := make([]byte, 46)
		le.PutUint32(head, 0x02014b50)
		le.PutUint16(head[8:], 8) // sizes follow the body
		le.PutUint16(head[10:], zip.Deflate)
		le.PutUint32(head[16:], crc32.ChecksumIEEE(body))
		le.PutUint32(head[20:], uint32(r.File[0].CompressedSize64))
		le.PutUint32(head[24:], uint32(len(body)))
		name := fmt.Sprintf("%04x", n)
		le.PutUint16(head[28:], uint16(len(name)))
		b = append(append(b, head...), name...)
	}
	end := make([]byte, 22)
	le.PutUint32(end, 0x06054b50)
	le.PutUint16(end[8:], entries)
	le.PutUint16(end[10:], entries)
	le.PutUint32(end[12:], uint32(len(b)-at))
	le.PutUint32(end[16:], uint32(at))
	return append(b, end...)
}

// A package that would write outside of its folder, grow without end, hold a million files, or is no whole zip, is refused
// with AWS's 400 when it is registered. Nothing of it is unpacked, the server keeps its memory and the next package is
// taken. // R17
func TestHostilePackages(t *testing.T) {
	kilntest.NeedContainer(t)
	s := shared.Server(t)
	n := startNeighbour(t, s)
	a := s.NewAccount(t)
	sound := pack(t)
	wrongSum := bytes.Clone(sound)
	wrongSum[bytes.Index(wrongSum, []byte("PK\x01\x02"))+16] ^= 1
	link := func(name, target string) entry { return entry{name, target, fs.ModeSymlink | 0o777} }
	packages := map[string][]byte{
		"parent":               pack(t, entry{"../outside", "x", 0o644}),
		"deep parent":          pack(t, entry{"a/b/../../../outside", "x", 0o644}),
		"absolute":             pack(t, entry{"/etc/cron.d/outside", "x", 0o644}),
		"backslashes":          pack(t, entry{`..\..\outside`, "x", 0o644}, entry{`..\f.py`, "x", 0o644}),
		"through a link":       pack(t, link("a", "/tmp"), entry{"a/outside", "x", 0o644}),
		"through two links":    pack(t, link("a", "b"), link("b", "../.."), entry{"a/outside", "x", 0o644}),
		"link over a file":     pack(t, entry{"a", "x", 0o644}, link("a", "/etc/passwd")),
		"link out":             pack(t, link("a", "../../../etc/shadow")),
		"absolute link":        pack(t, link("a", "/etc/shadow")),
		"file twice":           pack(t, entry{"a", "x", 0o644}, entry{"a/b", "x", 0o644}),
		"zero in a name":       pack(t, entry{"a\x00b", "x", 0o644}),
		"device":               pack(t, entry{"a", "", fs.ModeDevice | 0o666}),
		"bomb":                 pack(t, entry{"zeros", string(make([]byte, 300<<20)), 0o644}),
		"overlapping bomb":     overlapping(t),
		"a million entries":    million(),
		"truncated":            sound[:len(sound)/2],
		"truncated at its end": sound[:len(sound)-1],
		"wrong checksum":       wrongSum,
		"nothing":              {},
		"no zip":               []byte(strings.Repeat("no zip at all ", 100)),
		"an empty zip":         {'P', 'K', 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	}
	for name, b := range packages {
		t.Run(name, func(t *testing.T) {
			before := resident(t, s)
			body := fmt.Appendf(nil, `{"FunctionName":"hostile","Runtime":%q,"Handler":"f.handler","Role":%q,"Code":{"ZipFile":%q}}`,
				kilntest.PythonRuntime, kilntest.Role, base64.StdEncoding.EncodeToString(b))
			answer := a.Do(kilntest.Call{Method: http.MethodPost, Path: "/2015-03-31/functions", Body: body, Header: map[string]string{"Content-Type": "application/json"}})
			if name == "backslashes" && answer.Status == http.StatusCreated {
				// On Linux a backslash is a letter like others: such names stay in the folder.
				a.Do(kilntest.Call{Method: http.MethodDelete, Path: "/2015-03-31/functions/hostile"}).OK()
			} else {
				answer.Refused(http.StatusBadRequest, "InvalidParameterValueException")
			}
			if took := answer.Got.Sub(answer.Sent); took > 20*time.Second {
				t.Errorf("the refusal took %s", took)
			}
			if grown := resident(t, s) - before; grown > 512<<20 {
				t.Errorf("the server grew by %d MiB", grown>>20)
			}
			t.Logf("%d bytes in %s: %s", len(b), answer.Got.Sub(answer.Sent), answer.Body[:min(200, len(answer.Body))])
		})
	}
	for _, path := range s.Kernel(t).Files {
		if strings.Contains(path, "/packages/") || strings.Contains(path, "/cache/") {
			t.Errorf("left behind: %s", path)
		}
	}
	for _, outside := range []string{"/outside", "/tmp/outside", filepath.Join(s.Data, "outside"), filepath.Join(s.Data, "cache", "outside"), "/etc/cron.d/outside"} {
		if _, err := os.Lstat(outside); err == nil {
			t.Errorf("there is %s", outside)
		}
	}
	a.Probe("python", "sound")
	a.Invoke(kilntest.Invocation{Function: "sound"}).Facts()
	n.unhurt()
}

// A package whose bytes on disk are no longer what its digest says is never run: the caller gets a clear error, others go
// on, and registering the code again mends it. A digest the caller names and that is wrong is refused. // R17
func TestWrongDigests(t *testing.T) {
	kilntest.NeedContainer(t)
	s := kilntest.Start(t, kilntest.Options{Settings: map[string]string{"warming.instances": "1"}})
	a := s.NewAccount(t)
	other := a.Probe("python", "other")
	before := filesBelow(t, filepath.Join(s.Data, "packages"))
	probe := kilntest.Probe(t, "python", "spoiled").Constant("spoiled-01").Unique()
	if _, err := a.Lambda().CreateFunction(context.Background(), probe.Input(t)); err != nil {
		t.Fatal(err)
	}
	a.WaitActive("spoiled")
	spoilt := 0
	for path := range filesBelow(t, filepath.Join(s.Data, "packages")) {
		if before[path] {
			continue
		}
		b, err := os.ReadFile(path)
		if err == nil {
			b[len(b)/2] ^= 0x40
			_ = os.Chmod(path, 0o600)
			err = os.WriteFile(path, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		spoilt++
	}
	if spoilt != 1 {
		t.Fatalf("%d packages were added by one function", spoilt)
	}
	answer := a.Invoke(kilntest.Invocation{Function: "spoiled"})
	if answer.Status < 500 || answer.Status > 502 || !strings.Contains(strings.ToLower(string(answer.Body)), "package") {
		t.Errorf("a spoiled package: %d %s", answer.Status, answer.Body)
	}
	a.Invoke(kilntest.Invocation{Function: other}).Facts()
	if _, err := a.Lambda().UpdateFunctionCode(context.Background(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("spoiled"), ZipFile: probe.Zip(t)}); err != nil {
		t.Fatal(err)
	}
	a.WaitActive("spoiled")
	if f := a.Invoke(kilntest.Invocation{Function: "spoiled"}).Facts(); f.Constant != "spoiled-01" {
		t.Errorf("mended, it runs %q", f.Constant)
	}
	_, err := a.Lambda().PublishVersion(context.Background(), &lambda.PublishVersionInput{FunctionName: aws.String("spoiled"),
		CodeSha256: aws.String(base64.StdEncoding.EncodeToString(make([]byte, 32)))})
	if err == nil || !strings.Contains(err.Error(), "InvalidParameterValueException") {
		t.Errorf("a version of other code than there is: %v", err)
	}
}

func filesBelow(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			found[path] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
