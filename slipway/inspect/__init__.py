"""What an app of somebody's repository needs of Slipway, read from its files; nothing of it is run or imported.

Only on the controller: hosts do not get this room, and PyYAML is there through Ansible.
"""
