package kiln

import "fmt"

// Shape is the most an instance can give its containers.
type Shape struct {
	// MemoryMiB is the memory for containers, in MiB.
	MemoryMiB int `json:"memoryMiB" yaml:"memory"`
	// CPUs is the processor time for containers, in CPUs (1.5 is one and a half).
	CPUs float64 `json:"cpus" yaml:"cpus"`
}

// String shows a shape as "2048MiB/1cpu".
func (s Shape) String() string { return fmt.Sprintf("%dMiB/%gcpu", s.MemoryMiB, s.CPUs) }

// Amounts is what one container is given. The user asks for memory; the rest is the same fraction of the instance's
// shape (R80).
type Amounts struct {
	// MemoryMiB is the memory limit in MiB.
	MemoryMiB int `json:"memoryMiB"`
	// MilliCPUs is the processor limit in thousandths of a CPU.
	MilliCPUs int `json:"milliCpus"`
	// DiskMiB is the size of the container's private /tmp in MiB.
	DiskMiB int `json:"diskMiB"`
	// Processes bounds processes and threads.
	Processes int `json:"processes"`
}

// MaxProcesses is the bound on processes and threads in one container (AWS Lambda's quota).
const MaxProcesses = 1024

// Share gives the amounts of a container that asks for memoryMiB (and a /tmp of diskMiB) on an instance of shape s: the
// processor share is the memory's fraction of the shape, at least one hundredth of a CPU.
func (s Shape) Share(memoryMiB, diskMiB int) Amounts {
	milli := int(s.CPUs * 1000 * float64(memoryMiB) / float64(s.MemoryMiB))
	return Amounts{MemoryMiB: memoryMiB, MilliCPUs: max(milli, 10), DiskMiB: diskMiB, Processes: MaxProcesses}
}

// Configuration is what tells warm instances apart: the boundary that makes them, the language runtime they hold and
// their shape. A request's configuration picks the instances that can serve it (R22).
type Configuration struct {
	// Driver names the boundary: "container", "process", …
	Driver string
	// Runtime is the interpreter's own name, e.g. "python3.11", "nodejs20", "provided".
	Runtime string
	// Shape is the instance's maximum.
	Shape Shape
}

// String shows a configuration as "container/python3.11/2048MiB/1cpu".
func (c Configuration) String() string { return c.Driver + "/" + c.Runtime + "/" + c.Shape.String() }

// Usage is what a container has used so far, as its boundary counts it.
type Usage struct {
	// MemoryPeakBytes is the greatest memory use seen, in bytes.
	MemoryPeakBytes int64
	// CPUNanos is processor time used, in nanoseconds.
	CPUNanos int64
	// ThrottledNanos is time spent held back by the processor limit, in nanoseconds.
	ThrottledNanos int64
	// OutOfMemory counts the times the kernel ended a process of the container for want of memory.
	OutOfMemory int64
}
