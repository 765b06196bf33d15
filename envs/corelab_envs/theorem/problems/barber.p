% Domain   : the barber who shaves whoever does not shave himself
% Status   : Unsatisfiable
fof(barber, axiom, ? [X] : ! [Y] : (shaves(X, Y) <=> ~ shaves(Y, Y))).
