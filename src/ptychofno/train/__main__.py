from ptychofno.train import main

main()
