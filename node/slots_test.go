package node

import (
	"strings"
	"testing"

	"standfast/api"
	"standfast/config"
	"standfast/postgres"
)

// TestWhatSlotsAreFor: everything that the cluster knows a slot to be for is found out, and nothing of that is ever for an operator to drop. That
// a member's slot comes before all else is a rule of safety: PostgreSQL counts a half-open connection beside a new one twice.
func TestWhatSlotsAreFor(t *testing.T) {
	d := declared{
		members: []string{"pg1", "pg-2", "PG3"},
		clients: []config.ReplicationClient{{Name: "barman"}, {Name: "pg_2"}},
		logical: []config.Slot{{Name: "orders", Database: "app", Plugin: "pgoutput"}},
		made:    []string{"barman", "old_barman", "orders", "pg1"},
	}
	for _, c := range []struct {
		slot  postgres.ListedSlot
		is    api.SlotFor
		whose string
		why   string // of the refusal; "": it may be dropped
	}{
		{postgres.ListedSlot{Name: "pg1", Type: "physical"}, api.ForMember, "pg1", "standfast node remove pg1"},
		{postgres.ListedSlot{Name: "pg_2", Type: "physical"}, api.ForMember, "pg-2", "the member pg-2's"},
		{postgres.ListedSlot{Name: "pg3", Type: "physical"}, api.ForMember, "PG3", "the member PG3's"},
		{postgres.ListedSlot{Name: "pg3", Type: "logical"}, api.ForMember, "PG3", "the member PG3's"}, // in the way of one, and not ours to judge
		{postgres.ListedSlot{Name: "pg3", Type: "physical", Temporary: true}, api.ForMember, "PG3", "the member PG3's"},
		{postgres.ListedSlot{Name: "barman", Type: "physical"}, api.ForClient, "barman", "postgresql.replication_clients"},
		{postgres.ListedSlot{Name: "old_barman", Type: "physical"}, api.ForNobody, "", "goes by itself"},
		{postgres.ListedSlot{Name: "orders", Type: "logical", Database: "app"}, api.ForLogical, "orders", "postgresql.slots"},
		{postgres.ListedSlot{Name: "theirs", Type: "logical", Synced: true}, api.ForCopy, "", "on the primary"},
		{postgres.ListedSlot{Name: "pg_basebackup_7", Type: "physical", Temporary: true, Active: true}, api.ForSession, "", "temporary"},
		{postgres.ListedSlot{Name: "repmgr_slot_2", Type: "physical"}, api.ForStrangers, "", ""},
		{postgres.ListedSlot{Name: "repmgr_slot_2", Type: "physical", Active: true, Client: "walreceiver at 10.0.0.9"}, api.ForStrangers, "", "walreceiver at 10.0.0.9 receives from it now"},
		{postgres.ListedSlot{Name: "debezium", Type: "logical", Database: "app", Plugin: "pgoutput"}, api.ForStrangers, "", ""},
	} {
		is, whose := d.purpose(c.slot)
		if is != c.is || whose != c.whose {
			t.Errorf("%+v is for %s %s, not %s %s", c.slot, is, whose, c.is, c.whose)
		}
		err := notDropped(api.Slot{Member: "pg1", Name: c.slot.Name, For: is, Whose: whose, Active: c.slot.Active, Client: c.slot.Client})
		if (err == nil) != (c.why == "") {
			t.Errorf("%+v: %v", c.slot, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "the slot "+c.slot.Name+" on pg1 is not dropped")) {
			t.Errorf("%+v: %v does not say %q", c.slot, err, c.why)
		}
	}
}
