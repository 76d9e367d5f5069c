from trimtab.cli.app import main

main()
