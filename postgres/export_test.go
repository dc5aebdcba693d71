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
