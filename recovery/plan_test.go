package recovery

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"standfast/cluster"
)

var now = time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)

// survivor is pg3, a standby of pg1's in term 7; pg1 and pg2 are silent.
func survivor() Situation {
	data := func(name string) cluster.Member {
		return cluster.Member{Name: name, Kind: cluster.Data, Priority: 100, Beat: name + ":8301"}
	}
	return Situation{
		Self: "pg3", Operator: "anna", Now: now, Data: cluster.DataReady, SystemID: "42", Promised: 7,
		End: cluster.Position{Timeline: 3, LSN: 0x5000},
		Known: Known{
			Cluster: "main", Members: []cluster.Member{data("pg1"), data("pg2"), data("pg3")}, Config: "lease: 3s\n", Contact: now.Add(-time.Hour),
			State: cluster.State{Cluster: "main", SystemID: "42", Term: 7, Timeline: 3, Phase: cluster.Reigning, Primary: "pg1", Last: "pg1",
				Rule: cluster.NewRule(1, "pg2", "pg3"), Revision: 9},
		},
		Others: []Other{{Name: "pg1", Silent: "no route"}, {Name: "pg2", Silent: "refused"}},
	}
}

func TestMake(t *testing.T) {
	s := survivor()
	p, err := Make(s)
	if err != nil {
		t.Fatal(err)
	}
	st := p.Seed.State
	switch {
	case st.Term <= 7 || st.Timeline <= 3:
		t.Errorf("term %d and timeline %d may have been used", st.Term, st.Timeline)
	case st.Epoch != cluster.Epoch(now.UnixMilli()):
		t.Errorf("epoch %d", st.Epoch)
	case st.Phase != cluster.Electing || st.Last != "pg3" || st.Primary != "" || !st.Rule.Equal(cluster.Rule{}) || !st.Solo || st.SystemID != "42" || st.Revision != 0:
		t.Errorf("the first record is %+v", st)
	case len(p.Seed.Former) != 2 || p.Seed.Config != "lease: 3s\n":
		t.Errorf("%+v", p.Seed)
	}
	if !strings.Contains(st.Lost, "pg1 acknowledged") || st.LostIn != st.Term {
		t.Errorf("the history would tell of %q", st.Lost)
	}
}

// TestAboveEverything: nothing that anybody is known to have used comes again, whoever told of it, the clock set back included.
func TestAboveEverything(t *testing.T) {
	s := survivor()
	s.Known.Members = append(s.Known.Members, cluster.Member{Name: "pg4", Kind: cluster.Data}, cluster.Member{Name: "pg5", Kind: cluster.Data})
	s.Promised = 90
	s.Known.State.Epoch = cluster.Epoch(now.UnixMilli()) + 1000
	s.Others = append(s.Others, Other{Name: "pg4", Epoch: s.Known.State.Epoch, Term: 95, End: cluster.Position{Timeline: 2, LSN: 0x9000}})
	p, err := Make(s)
	if err != nil {
		t.Fatal(err)
	}
	if st := p.Seed.State; st.Term <= 95 || st.Timeline <= 3 || st.Epoch <= s.Known.State.Epoch {
		t.Errorf("%+v", st)
	}
}

func TestSure(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*cluster.State)
		sure   bool
		says   string
	}{
		"one of two that counted":   {func(*cluster.State) {}, false, "only pg2 had them"},
		"the last primary":          {func(s *cluster.State) { s.Last, s.Primary = "pg3", "pg3" }, true, "last primary"},
		"deposed, nobody elected":   {func(s *cluster.State) { s.Last, s.Primary, s.Phase = "pg3", "", cluster.Electing }, true, "last primary"},
		"the only one that counted": {func(s *cluster.State) { s.Rule = cluster.NewRule(1, "pg3") }, true, "all of them are here"},
		"both had to have it":       {func(s *cluster.State) { s.Rule = cluster.NewRule(2, "pg2", "pg3") }, true, "all of them are here"},
		"outside the rule":          {func(s *cluster.State) { s.Rule = cluster.NewRule(1, "pg2") }, false, "had to be on pg3"},
		"commits that need nobody":  {func(s *cluster.State) { s.Rule = cluster.NewRule(0, "pg3") }, false, "had to be on pg3"},
	} {
		s := survivor()
		c.change(&s.Known.State)
		p, err := Make(s)
		if err != nil {
			t.Fatal(name, err)
		}
		if text := strings.Join(p.Lost, "; "); p.Sure != c.sure || !strings.Contains(text, c.says) || !strings.Contains(text, "without pg3 after") {
			t.Errorf("%s: sure %v, %s", name, p.Sure, text)
		}
	}
}

func TestRefused(t *testing.T) {
	for why, change := range map[string]func(*Situation){
		"a majority of 3 members": func(s *Situation) { s.Others[1].Silent = "" },
		"recover on pg2": func(s *Situation) {
			five(s)
			s.Others[1] = Other{Name: "pg2", End: cluster.Position{Timeline: 3, LSN: 0x5001}}
		},
		"recover on pg1": func(s *Situation) {
			five(s)
			s.Others[0] = Other{Name: "pg1", End: cluster.Position{Timeline: 4, LSN: 1}}
		},
		"node rejoin takes this":     func(s *Situation) { s.Others[0] = Other{Name: "pg1", Epoch: 1} },
		"is a witness":               func(s *Situation) { s.Known.Members[2].Kind = cluster.Witness },
		"holds no data":              func(s *Situation) { s.Data = cluster.NoData },
		"is half made":               func(s *Situation) { s.Data = cluster.DataPartial },
		"belongs to another cluster": func(s *Situation) { s.SystemID = "43" },
		"does not know what was":     func(s *Situation) { s.Known = Known{} },
		"was not a member":           func(s *Situation) { s.Self = "pg9" },
		"is the only member":         func(s *Situation) { s.Known.Members = s.Known.Members[2:] },
	} {
		s := survivor()
		change(&s)
		_, err := Make(s)
		var refused *Refused
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", why, err)
		}
	}
}

// five makes two answering members less than a majority.
func five(s *Situation) {
	s.Known.Members = append(s.Known.Members, cluster.Member{Name: "pg4"}, cluster.Member{Name: "pg5"})
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := LoadKnown(dir); !errors.Is(err, ErrNothing) {
		t.Errorf("%v", err)
	}
	if err := Touch(dir, now); err != nil {
		t.Errorf("nothing is known yet: %v", err)
	}
	want := survivor().Known
	want.State.Revision, want.Contact = 0, now
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := Touch(dir, now); err != nil {
		t.Fatal(err)
	}
	got, err := LoadKnown(dir)
	got.Contact = got.Contact.UTC()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
	if err := (Over{Epoch: 3, Text: "x"}).Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := (Seed{At: now}).Save(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, seedName)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	if err := Clear(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	if err := os.WriteFile(filepath.Join(dir, overName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOver(dir); err == nil || errors.Is(err, ErrNothing) {
		t.Errorf("a mark that can't be read: %v", err)
	}
}

// TestAgain: a file that said join: true all along is no wish to be in the new cluster.
func TestAgain(t *testing.T) {
	for _, c := range []struct {
		over       Over
		join, want bool
	}{
		{Over{}, false, false}, {Over{}, true, true}, {Over{Joined: true}, true, false},
		{Over{Joined: true, Rejoin: true}, true, true}, {Over{Rejoin: true}, false, false},
	} {
		if got := c.over.Again(c.join); got != c.want {
			t.Errorf("%+v, join %v: %v", c.over, c.join, got)
		}
	}
}
