// Package remote is a host of Debian's family as a deployment works on it: each verb a small script that root's shell carries out
// there, with the program itself sent along to answer the questions of package probe.
package remote
