% Domain   : Pelletier's problem 22
% Status   : Theorem
fof(goal, conjecture, (! [X] : (p <=> f(X))) => (p <=> ! [X] : f(X))).
