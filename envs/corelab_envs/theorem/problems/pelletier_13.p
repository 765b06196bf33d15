% Domain   : Pelletier's problem 13
% Status   : Theorem
fof(goal, conjecture, (p | (q & r)) <=> ((p | q) & (p | r))).
