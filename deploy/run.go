package deploy

import (
	"context"
	"errors"
	"sync"
	"time"
)

// step is one thing to bring about.
type step struct {
	name string
	// done looks, and changes nothing. It is asked before do, and after.
	done func(ctx context.Context) (bool, error)
	do   func(ctx context.Context) error
	// diff tells what do would change in files; nil: nothing.
	diff func(ctx context.Context) ([]Diff, error)
}

// check is one thing that a checkpoint proves by doing it. The text says what was seen.
type check struct {
	name string
	try  func(ctx context.Context) (text string, err error)
	// unless gives the reason to pass it over; "", or no function: it is tried.
	unless func(ctx context.Context, dry bool) (why string, err error)
}

// phase is one of the five.
type phase struct {
	number int
	title  string
	first  []step            // here, or for the cluster, in order
	hosts  map[string][]step // on all hosts at the same time
	last   []step            // for the cluster, in order
	checks []check
}

// Changed counts what a run has done.
type Changed int

// Run carries out the phases. It stops at the first that fails, when every host has come to the end of its own steps or to a failure.
// Begun again, it goes on there.
func Run(ctx context.Context, s *Site, o Options) (Changed, error) {
	if err := s.sameMembers(ctx); err != nil {
		return 0, err
	}
	return run(ctx, s.phases(), o)
}

func run(ctx context.Context, phases []phase, o Options) (Changed, error) {
	r := &runner{o: o}
	for _, p := range phases {
		if o.Only != 0 && o.Only != p.number {
			continue
		}
		if err := r.phase(ctx, p); err != nil {
			return r.changed, err
		}
	}
	return r.changed, nil
}

// Validate tries the checkpoints of phases 1 to 4, all of them, and changes nothing that stays. With failover it goes on to that of
// phase 5 if they hold, whatever the cluster holds: whoever calls has asked its administrator.
func Validate(ctx context.Context, s *Site, failover bool, tell func(Event)) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	r := &runner{o: Options{Tell: tell}}
	var errs []error
	for _, p := range s.phases() {
		if p.number == 5 && (!failover || errors.Join(errs...) != nil) {
			break
		}
		if p.number == 5 {
			s.Patience = 0 // a member comes back from the dead there
		}
		for _, c := range p.checks {
			errs = append(errs, r.check(ctx, p, c))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return errors.Join(errs...)
}

type runner struct {
	o       Options
	mu      sync.Mutex // held while an event is told
	changed Changed
}

func (r *runner) tell(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.State == Did || e.State == Would {
		r.changed++
	}
	r.o.Tell(e)
}

func (r *runner) phase(ctx context.Context, p phase) error {
	if err := r.steps(ctx, p, "", p.first); err != nil {
		return err
	}
	errs := make([]error, 0, len(p.hosts))
	var mu sync.Mutex
	var wait sync.WaitGroup
	for host, list := range p.hosts {
		wait.Go(func() {
			err := r.steps(ctx, p, host, list)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := r.steps(ctx, p, "", p.last); err != nil {
		return err
	}
	for _, c := range p.checks {
		if over, err := r.passOver(ctx, p, c); over || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := r.check(ctx, p, c); err != nil {
			return err
		}
		if c.unless != nil {
			r.changed++
		}
	}
	return nil
}

// passOver reports whether a checkpoint is not for this run. A dry run tries none, and tells of those that would do more than look.
func (r *runner) passOver(ctx context.Context, p phase, c check) (bool, error) {
	e := Event{Phase: p.number, Title: p.title, Step: c.name}
	if c.unless != nil {
		why, err := c.unless(ctx, r.o.DryRun)
		switch {
		case err != nil:
			e.State, e.Err = Failure, err
			r.tell(e)
			return false, &StepError{p.number, "", c.name, err}
		case why != "":
			e.State, e.Text = Passed, why
			r.tell(e)
			return true, nil
		case r.o.DryRun:
			e.State = Would
			r.tell(e)
		}
	}
	return r.o.DryRun, nil
}

func (r *runner) steps(ctx context.Context, p phase, host string, list []step) error {
	for _, s := range list {
		e := Event{Phase: p.number, Title: p.title, Host: host, Step: s.name}
		began := time.Now()
		state, err := r.step(ctx, &e, s)
		e.State, e.Took = state, time.Since(began)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			e.State, e.Err = Failure, err
			r.tell(e)
			return &StepError{p.number, host, s.name, err}
		}
		r.tell(e)
	}
	return nil
}

// errNoEffect is a step that ended well and is not done.
var errNoEffect = errors.New("it ended without an error, and is not done")

func (r *runner) step(ctx context.Context, e *Event, s step) (State, error) {
	done, err := s.done(ctx)
	if err == nil && !done && r.o.Diff && s.diff != nil {
		e.Diff, err = s.diff(ctx)
	}
	switch {
	case err != nil:
		return Failure, err
	case done:
		return Was, nil
	case r.o.DryRun:
		return Would, nil
	}
	e.State = Begins
	r.tell(*e)
	if err := s.do(ctx); err != nil {
		return Failure, err
	}
	done, err = s.done(ctx)
	if err == nil && !done {
		err = errNoEffect
	}
	return Did, err
}

func (r *runner) check(ctx context.Context, p phase, c check) error {
	e := Event{Phase: p.number, Title: p.title, Step: c.name, State: Begins}
	r.tell(e)
	began := time.Now()
	text, err := c.try(ctx)
	e.State, e.Text, e.Took = Holds, text, time.Since(began)
	if err != nil {
		e.State, e.Err = Failure, err
	}
	r.tell(e)
	if err != nil {
		return &StepError{p.number, "", c.name, err}
	}
	return nil
}
