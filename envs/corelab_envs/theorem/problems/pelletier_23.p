% Domain   : Pelletier's problem 23
% Status   : Theorem
fof(goal, conjecture, (! [X] : (p | f(X))) <=> (p | ! [X] : f(X))).
