% Domain   : orders: between two there are two
% Status   : Theorem
fof(transitive, axiom, ! [X, Y, Z] : ((less(X, Y) & less(Y, Z)) => less(X, Z))).
fof(dense, axiom, ! [X, Y] : (less(X, Y) => ? [Z] : (less(X, Z) & less(Z, Y)))).
fof(goal, conjecture, ! [X, Y] : (less(X, Y) => ? [Z, W] : (less(X, Z) & less(Z, W) & less(W, Y)))).
