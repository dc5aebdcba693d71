package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"standfast/test/system/rig"
)

// idleNode is what one node costs while no client does anything: all but PostgreSQL.
type idleNode struct {
	Node   string               `json:"node"`
	Role   string               `json:"role"`
	Memory map[rig.Part]float64 `json:"memory_mb"`   // PSS
	CPU    map[rig.Part]float64 `json:"cpu_percent"` // of one core
}

// idleTime is how long CPU time is counted for, after settling.
const (
	settling = 15 * time.Second
	idleTime = 60 * time.Second
)

// idle runs each node from a copy of the program of its own, as on hosts of their own: nodes that share the program's file
// share its memory as well, and would look cheaper than they are.
func idle(ctx context.Context, _ limits, _ map[string]int) (err error) {
	dir, err := os.MkdirTemp("", "standfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := rig.OwnCopies(dir)
	if err != nil {
		return err
	}
	r, err := rig.Start(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Stop(err != nil)) }()
	primary, _, err := r.AwaitWhole(ctx, healing)
	if err != nil {
		return err
	}
	if err := wait(ctx, settling); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "idle for %v\n", idleTime)
	used := map[*rig.Node]map[rig.Part]time.Duration{}
	began := time.Now()
	for _, n := range r.Nodes {
		if used[n], err = n.CPU(); err != nil {
			return err
		}
	}
	if err := wait(ctx, idleTime); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		i := idleNode{Node: n.Name, Role: "standby", Memory: map[rig.Part]float64{}, CPU: map[rig.Part]float64{}}
		if n == primary {
			i.Role = "primary"
		}
		if err := i.measure(n, used[n], began); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s (%s): %v MB, %v %%\n", i.Node, i.Role, i.Memory, i.CPU)
		if err := send("idle", i); err != nil {
			return err
		}
	}
	return nil
}

func (i *idleNode) measure(n *rig.Node, before map[rig.Part]time.Duration, began time.Time) error {
	cpu, err := n.CPU()
	if err != nil {
		return err
	}
	length := time.Since(began)
	memory, err := n.Memory()
	if err != nil {
		return err
	}
	for _, part := range ours {
		i.Memory[part] = float64(memory[part]) / (1 << 20)
		i.CPU[part] = 100 * (cpu[part] - before[part]).Seconds() / length.Seconds()
	}
	return nil
}

// ours are the parts that are counted.
var ours = []rig.Part{rig.Agent, rig.Etcd, rig.Guard}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
