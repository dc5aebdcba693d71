// Package system holds the tests that have the last word: a real cluster of three nodes is struck by one fault after another
// while clients write and read, and afterwards every acknowledged commit must be there, no two servers may have acknowledged
// at the same time, and the cluster must be whole again with no command given. They take minutes and the playground's usual
// addresses (127.0.0.10 to .13), so they run only when asked for:
//
//	go test -tags e2e -count 1 -timeout 20m -v ./test/system
//
// PostgreSQL refuses to run as root: run by root, the tests start themselves over as the user postgres.
package system
