package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestRepeatInDoubt: the first attempt, a comparison, takes long, and meanwhile the second one's comparison fails. Whether
// that is because the first has been carried out only the first one's answer tells.
func TestRepeatInDoubt(t *testing.T) {
	const late = hedge + hedge/2
	for _, c := range []struct {
		name  string
		first func(context.Context) (string, error)
		want  string
		err   error
	}{
		{"no other attempt", func(context.Context) (string, error) { return "conflict", nil }, "conflict", nil},
		{"the first says nothing", func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, "", errUnsure},
		{"the first succeeded", func(ctx context.Context) (string, error) { pause(ctx, late); return "written", nil }, "written", nil},
		{"the first failed too", func(ctx context.Context) (string, error) { pause(ctx, late); return "conflict", nil }, "", errUnsure},
		{"the first broke", func(ctx context.Context) (string, error) {
			pause(ctx, late)
			return "", rpctypes.ErrLeaderChanged
		}, "", errUnsure},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := nowhere(t)
			first := s.endpoints[0].client
			op := func(ctx context.Context, client *clientv3.Client) (string, error) {
				if client == first {
					return c.first(ctx)
				}
				return "conflict", nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got, err := repeat(ctx, s, op, func(v string) bool { return v == "conflict" })
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.err)
			}
		})
	}
}

// TestFinal: what repeating can't cure is returned at once, by its reason.
func TestFinal(t *testing.T) {
	s := nowhere(t)
	for err, want := range map[error]bool{
		rpctypes.ErrRequestTooLarge:            true,
		rpctypes.ErrNoSpace:                    true,
		rpctypes.ErrPermissionDenied:           true,
		rpctypes.ErrTooManyRequests:            false,
		rpctypes.ErrNoLeader:                   false,
		rpctypes.ErrLeaderChanged:              false,
		rpctypes.ErrTimeout:                    false,
		rpctypes.ErrGRPCNotSupportedForLearner: false,
		rpctypes.ErrCorrupt:                    false,
	} {
		attempts := 0
		op := func(context.Context, *clientv3.Client) (string, error) {
			if attempts++; attempts < 3 {
				return "", err
			}
			return "cured", nil
		}
		_, got := repeat(t.Context(), s, op, func(string) bool { return false })
		if (attempts == 1) != want || (want && !errors.Is(got, err)) {
			t.Errorf("%v: %v after %d attempts", err, got, attempts)
		}
	}
}

// TestOnceWaits: where no other endpoint is better, a slow one is waited for.
func TestOnceWaits(t *testing.T) {
	got, err := once(t.Context(), nowhere(t), func(ctx context.Context, _ *clientv3.Client) (string, error) {
		pause(ctx, 4*hedge)
		return "slow", nil
	})
	if got != "slow" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// nowhere is a store whose endpoints do not exist: for operations that do not use them.
func nowhere(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Config{Endpoints: []string{"127.0.0.1:1", "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
