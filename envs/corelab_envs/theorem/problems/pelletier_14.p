% Domain   : Pelletier's problem 14
% Status   : Theorem
fof(goal, conjecture, (p <=> q) <=> ((q | ~ p) & (~ q | p))).
