% Domain   : Pelletier's problem 9
% Status   : Theorem
fof(goal, conjecture, ((p | q) & (~ p | q) & (p | ~ q)) => ~ (~ p | ~ q)).
