// Package pgconf reads and writes the texts that PostgreSQL keeps its settings and its state in: postgresql.conf and
// postgresql.auto.conf, pg_hba.conf, pg_ident.conf, connection strings, synchronous_standby_names, timeline history
// files, names of WAL segments, and the output of pg_controldata.
//
// It is text in, text out: no file is opened, no clock is read, no server is asked.
package pgconf
