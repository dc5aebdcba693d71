// Package logs keeps the newest lines that a member's own parts log, in memory, and reads those of its PostgreSQL from the end of its
// file, for whoever reads the logs of all members together. What leaves is without passwords and the like (internal/redact).
package logs
