package checker

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// model is one register as one server would keep it.
var model = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		v, op := state.(int64), input.(RegisterOp)
		after := v
		if op.Kind == SetIt || op.Kind == CompareSet && op.Expected == v {
			after = op.Value
		}
		return op.Unknown || op.Found == after, after
	},
	DescribeOperation: func(input, _ any) string { return input.(RegisterOp).String() },
}

// String says in words what was asked and what came of it.
func (op RegisterOp) String() string {
	what := string(op.Kind)
	switch op.Kind {
	case SetIt:
		what = fmt.Sprintf("set to %d", op.Value)
	case CompareSet:
		what = fmt.Sprintf("set to %d if it is %d", op.Value, op.Expected)
	}
	if op.Unknown {
		return what + ": no answer"
	}
	return fmt.Sprintf("%s: holds %d", what, op.Found)
}

// Registers is the verdict on the registers' histories.
type Registers struct {
	Registers  int     `json:"registers"`
	Operations int     `json:"operations"`
	Unknown    int     `json:"unknown"`
	Broken     []int64 `json:"broken,omitempty"`    // registers with a history that no single server could have made
	Undecided  []int64 `json:"undecided,omitempty"` // not decided in time
}

// linearizable decides each register's history, for at most so long.
func linearizable(ops []RegisterOp, each time.Duration) Registers {
	histories := map[int64][]porcupine.Operation{}
	out := Registers{Operations: len(ops)}
	for _, op := range ops {
		end := int64(op.End)
		if op.Unknown {
			out.Unknown++
			end = math.MaxInt64
		}
		histories[op.Key] = append(histories[op.Key], porcupine.Operation{ClientId: len(histories[op.Key]), Input: op, Call: int64(op.Begin), Return: end})
	}
	out.Registers = len(histories)
	for key, history := range histories {
		switch porcupine.CheckOperationsTimeout(model, history, each) {
		case porcupine.Illegal:
			out.Broken = append(out.Broken, key)
		case porcupine.Unknown:
			out.Undecided = append(out.Undecided, key)
		}
	}
	slices.Sort(out.Broken)
	slices.Sort(out.Undecided)
	return out
}
