"""Tables of action values on gridworlds, and a pair of states that shows what makes values diverge."""
