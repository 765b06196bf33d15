% Domain   : Pelletier's problem 6
% Status   : Theorem
fof(goal, conjecture, p | ~ p).
