% Domain   : Pelletier's problem 36
% Status   : Theorem
fof(a1, axiom, ! [X] : ? [Y] : f(X, Y)).
fof(a2, axiom, ! [X] : ? [Y] : g(X, Y)).
fof(a3, axiom, ! [X, Y] : ((f(X, Y) | g(X, Y)) => ! [Z] : ((f(Y, Z) | g(Y, Z)) => h(X, Z)))).
fof(goal, conjecture, ! [X] : ? [Y] : h(X, Y)).
