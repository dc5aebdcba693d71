// Package deptest holds no code but a test: which package may import which, and what a pure package may not touch. The
// root listing is the architecture only as long as imports point one way.
package deptest
