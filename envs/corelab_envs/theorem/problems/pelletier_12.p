% Domain   : Pelletier's problem 12
% Status   : Theorem
fof(goal, conjecture, ((p <=> q) <=> r) <=> (p <=> (q <=> r))).
