package web_test

import (
	"math"
	"os"
	"testing"
	"time"

	"standfast/api"
	vocabulary "standfast/cluster"
	"standfast/test/browser"
)

// TestPictures takes those that stand in the documentation, of a cluster at work, when somebody wants them anew:
//
//	STANDFAST_PICTURES=docs/img go test ./api/web -run TestPictures -timeout 10m
func TestPictures(t *testing.T) {
	if os.Getenv("STANDFAST_PICTURES") == "" {
		t.Skip("nobody wants pictures (STANDFAST_PICTURES=DIR)")
	}
	b := browser.Start(t)
	pg1 := cluster(t, "healthy")["pg1"]
	pg1.picture.mu.Lock()
	pg1.change = atWork(time.Now())
	pg1.picture.mu.Unlock()
	b.Window(1120, 840, 1, false)
	b.Open("https://" + pg1.secure + "/ui")
	b.Press("Sign in…")
	typeInto(b, "#token", "right-token")
	b.Press("Sign in")
	time.Sleep(4 * time.Minute) // the plots fill
	snap(t, b, "ui", true)
	b.Window(1120, 840, 1, true)
	snap(t, b, "ui-dark", true)
	b.Window(360, 740, 1.5, true)
	snap(t, b, "ui-phone", false)
	b.Quiet()
}

// atWork makes figures move as those of a cluster that is written to.
func atWork(began time.Time) func(st *api.Status, at time.Time) {
	return func(st *api.Status, at time.Time) {
		s := at.Sub(began).Seconds()
		wave := func(period, shift float64) float64 { return math.Sin(s/period + shift) }
		head := uint64(0x2_40000000) + uint64(s*2.6e6+2.4e7*(1-math.Cos(s/30))+9e5*wave(4, 0))
		st.Cluster, st.Since = "main", began.Add(-19*24*time.Hour)
		st.Address = []api.Address{{Address: "10.20.0.10/24", Follows: "primary", Holder: "pg1"}}
		sessions := [...]int{38, 21, 17}
		for i := range st.Members {
			m := &st.Members[i]
			m.Sessions, m.LSN = sessions[i], vocabulary.LSN(head)
			if m.Role != api.Standby {
				continue
			}
			lag := int64(9000 + 7000*wave(3+float64(i), float64(i)) + 5000*wave(1.3, float64(i)))
			if i == 2 && math.Mod(s, 110) > 82 && math.Mod(s, 110) < 96 {
				lag += int64(70000 * (1 - math.Abs(math.Mod(s, 110)-89)/7))
			}
			m.Lag, m.Replayed = &lag, vocabulary.LSN(head-uint64(lag))
		}
		w, r := &st.Router.Write, &st.Router.Read
		w.Sessions, w.Accepted, w.Received, w.Sent = 29, 48211, 3_912_442_019, 9_120_553_204
		r.Sessions, r.Accepted, r.Received, r.Sent = 9, 20144, 811_402_113, 14_992_120_771
	}
}
