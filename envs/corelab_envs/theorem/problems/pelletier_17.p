% Domain   : Pelletier's problem 17
% Status   : Theorem
fof(goal, conjecture, ((p & (q => r)) => s) <=> ((~ p | q | s) & (~ p | ~ r | s))).
