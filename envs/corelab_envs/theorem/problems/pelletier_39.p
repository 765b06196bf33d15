% Domain   : Pelletier's problem 39, the set of all that are not in themselves
% Status   : Theorem
fof(goal, conjecture, ~ ? [X] : ! [Y] : (f(Y, X) <=> ~ f(Y, Y))).
