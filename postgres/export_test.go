package postgres

import "context"

// StartUnseen starts a standby as promoteLowered does.
func (s *Server) StartUnseen(ctx context.Context) error {
	c := s.config()
	c.unseen = true
	if err := c.writeFile(c.standbyFile(), nil, true); err != nil {
		return err
	}
	return s.launch(ctx, c)
}

// Backend is what Cancel saw of one.
type Backend struct {
	WaitType, Wait   string
	Writes, Snapshot bool
	Copies, Standbys int
}

// Withhold says why Cancel would keep a request from it.
func (b Backend) Withhold() string {
	return backend{waitType: b.WaitType, wait: b.Wait, writes: b.Writes, snapshot: b.Snapshot, copies: b.Copies, standbys: b.Standbys}.withhold()
}

// EndEntering is endEntering, of those who have said nothing yet.
func (s *Server) EndEntering(late bool) (int, error) {
	born, err := s.unnamed()
	if err != nil {
		return 0, err
	}
	return s.endEntering(born, late)
}
