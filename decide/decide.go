// Package decide says what a member should do next, as a pure function of what it sees.
package decide

import "standfast/cluster"

// Decide returns what the member whose view this is should do now, in order.
func Decide(v cluster.View) []cluster.Action { return nil }

// Route returns where the member's router should send clients now.
func Route(v cluster.View) cluster.Route { return cluster.Route{} }
