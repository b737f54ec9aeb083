package lab

import "headroom/eval"

// unheld are the arms that have other numbers of tokens per parameter at some of their sizes, which a law over the
// sizes takes to be the same. Where no law can come of the sizes it is empty.
func (c *Compare) unheld() (lines []string, err error) {
	sizes := map[string][]*eval.Arm{} // by arm
	for _, arm := range c.Arms {
		a := &eval.Arm{Name: arm.Name, Size: arm.Size}
		n, err := parameters(arm.Config)
		if err != nil {
			return nil, err
		}
		a.Parameters = int64(n)
		if a.Tokens, err = trainTokens(arm.Config); err != nil {
			return nil, err
		}
		sizes[arm.Name] = append(sizes[arm.Name], a)
	}
	for _, arm := range c.Arms {
		if all := sizes[arm.Name]; len(all) >= eval.LeastSizes && all[0].Size == arm.Size {
			if text := eval.Unheld(all); text != "" {
				lines = append(lines, text)
			}
		}
	}
	return lines, nil
}
