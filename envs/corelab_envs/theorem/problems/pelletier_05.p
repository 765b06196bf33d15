% Domain   : Pelletier's problem 5
% Status   : Theorem
fof(goal, conjecture, ((p | q) => (p | r)) => (p | (q => r))).
